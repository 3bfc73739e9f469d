"""The keys of equal cells are equal in all kernels: that is how a kernel knows a kept container."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

PROGRAM = r"""
import os, sys, threading

CELL = '''
import dataclasses, enum, functools, re, threading, typing
import lifecycle_magic as lm
import beside

WORDS = {"a", "bc", "def", "ghij", "klmno", "pqrstu"}
FROZEN = frozenset({("x", 1), ("y", 2), frozenset({"u", "v", "w"})})
TABLE = {word: {len(word), word} for word in sorted(WORDS)}
PATTERN = re.compile("a+b", re.I)

class Plain:                      # the default repr has an address
    def __init__(self, value): self.value = value

@dataclasses.dataclass(eq=False)
class Point:
    x: int = 0
    y: typing.Any = dataclasses.field(default_factory=dict)

class Colour(enum.Enum):
    RED = 1
    BLUE = "b"

THING, POINT, LOCK = Plain(WORDS), Point(1, Plain(None)), threading.Lock()

def outer():
    seen = {"closed", "over", "names"}
    def inner(x, *, key=lambda y: y in FROZEN): return x, seen, key
    return inner

helper = outer()
part = functools.partial(helper, key=Plain)

def traced(f):
    @functools.wraps(f)
    def wrapper(*a, **k): return f(*a, **k)
    return wrapper

app = lm.App("equal", cpu=2)

@app.cls(
    keep="15m",
    image=lm.Image.debian_slim().pip_install("six", "attrs").env({"B": "1", "A": "2"}),
    env={"Z": "1", "A": "2"},
    secrets=[lm.Secret.from_dict({"PIN": "1234"})],
    volumes={"/v": lm.Volume.from_name("v"), "/e": lm.Volume.ephemeral()},
)
class Model:
    limit: int = lm.parameter(default=3)
    colours = {Colour.RED, Colour.BLUE}

    @lm.enter()
    def load(self):
        self.words = {"in", "the", "method"} | WORDS
        self.rest = THING, POINT, TABLE, PATTERN, helper, part, Colour.RED, LOCK, beside.NAMES

    @traced
    @lm.method()
    def predict(self, x): return x in {"one", "two", "three"} or [beside.ask(y) for y in FROZEN]

    @lm.exit()
    def close(self): ...
'''
name = f"/tmp/ipykernel_{os.getpid()}/{id(CELL)}.py"
exec(compile("\n" * (os.getpid() % 7) + CELL, name, "exec"), globals())
spec = Model._entry.spec
print(spec.state_key, spec.code_key, spec.arguments((), {"limit": 4}).key)
for part in (spec.state_parts, spec.code_parts):
    print(*sorted(part.items()), sep="\n")
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "beside.py").write_text(
        "NAMES = {'p', 'q', 'r'}\n\n\ndef ask(x):\n    return x in NAMES\n"
    )

    def run(seed: int) -> str:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={
                **os.environ,
                "PYTHONHASHSEED": str(seed),
                "PYTHONPATH": f"{Path.cwd()}:{os.environ.get('PYTHONPATH', '')}",
                "LIFECYCLE_MAGIC_STATE": str(folder / "state"),
            },
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(run, range(20)))


@pytest.mark.slow
def test_twenty_kernels_agree_on_the_keys_of_a_cell(told: list[str]) -> None:
    assert set(told) == {told[0]}
