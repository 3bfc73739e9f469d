"""Calls that do not begin in the kernel that declared the class, beside those that do.

A nested call begins in a method of another class, and goes by way of the kernel. A call by name
goes to a class that another process serves. Each is timed where it begins.
"""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

import lifecycle_magic as lm
from benchmarks.figures import Bound, Figures, Run, alternate, timed
from benchmarks.plan import Plan

NESTED_LIMIT = 4.0
BY_NAME_LIMIT = 2.0
LARGE_LIMIT = 2.0
LARGE_BYTES = 100_000_000
QUICK_BYTES = 10_000_000

_SERVER = """
import sys
import lifecycle_magic as lm

app = lm.App(sys.argv[1], engine=sys.argv[2])

@app.cls()
class Named:
    @lm.method()
    def echo(self, value):
        return value

Named().echo.remote(1)
print("ready", flush=True)
sys.stdin.read()
app.stop()
"""


def measure(plan: Plan) -> Figures:
    """Return samples of nested calls and calls by name, and the bounds on them."""
    figures = Figures()
    for engine in plan.engines:
        name = f"bench-named-{uuid.uuid4().hex[:8]}"
        with lm.App(f"bench-addresses-{engine}").run() as app, _served(name, engine):
            figures += _of_engine(plan, app, engine, name)
    return figures


def _of_engine(plan: Plan, app: lm.App, engine: str, name: str) -> Figures:
    image = lm.Image.debian_slim().uv_pip_install("numpy")

    @app.cls(engine=engine, image=image)
    class Inner:
        @lm.method()
        def echo(self, value: Any) -> Any:
            return value

    @app.cls(engine=engine, image=image)
    class Outer:
        @lm.enter()
        def load(self) -> None:
            self.inner = Inner()
            self.array = np.ones(1, np.uint8)

        @lm.method()
        def nested(self, size: int, times: int) -> list[float]:
            """Return the seconds of each of the nested calls, with an array of ``size`` bytes."""
            if size and self.array.nbytes != size:
                self.array = np.ones(size, np.uint8)
            value = self.array if size else 1
            seconds = []
            for _ in range(times):
                began = time.perf_counter()
                self.inner.echo.remote(value)
                seconds.append(time.perf_counter() - began)
            return seconds

    inner, outer = Inner(), Outer()
    named = lm.Cls.from_name(name, "Named")()
    warm, nested, by_name = (f"{engine}: {way}" for way in ("direct", "nested", "by name"))
    runs: dict[str, Run] = {
        warm: timed(partial(inner.echo.remote, 1)),
        nested: partial(outer.nested.remote, 0),
        by_name: timed(partial(named.echo.remote, 1)),
    }
    work = "no-op call, by where it begins"
    figures = alternate(work, runs, rounds=plan.rounds(30), times=100)
    found = _bound(figures, work, engine, nested, warm, NESTED_LIMIT)
    found += _bound(figures, work, engine, by_name, warm, BY_NAME_LIMIT)
    size = QUICK_BYTES if plan.quick else LARGE_BYTES
    array = np.ones(size, np.uint8)
    large = f"echo {size // 1_000_000} MB array, by where it begins"
    runs = {
        warm: timed(partial(inner.echo.remote, array)),
        nested: partial(outer.nested.remote, size),
    }
    more = alternate(large, runs, rounds=plan.rounds(6), times=3)
    return figures + found + more + _bound(more, large, engine, nested, warm, LARGE_LIMIT)


def _bound(
    figures: Figures, work: str, engine: str, who: str, beside: str, limit: float
) -> Figures:
    ours, direct = figures.median(who), figures.median(beside)
    assert ours is not None
    assert direct is not None
    way = who.removeprefix(f"{engine}: ")
    text = f"{work}: {way} at most {limit:g} x direct"
    return Figures(bounds=(Bound(text, engine, ours, limit * direct),))


@contextmanager
def _served(name: str, engine: str) -> Iterator[None]:
    """Serve a class in a process of its own meanwhile."""
    command = [sys.executable, "-c", _SERVER, name, engine]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        for line in process.stdout:
            if line.strip() == b"ready":
                break
        else:
            raise RuntimeError(f"the process that serves {name} exited: {process.wait()}")
        try:
            yield
        finally:
            process.stdin.close()
            process.stdout.read()
