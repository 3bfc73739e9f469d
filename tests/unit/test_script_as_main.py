"""A script behaves as under ``python script.py``: both run it and print the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.every_python

HEAD = """\
import lifecycle_magic as lm
app = lm.App()
"""
TAIL = """
@app.local_entrypoint()
def main(x: int = 0): ...
"""
FACTS = '''\
"""What the script is for."""
import dataclasses, inspect, json, sys, typing, warnings
import beside
import lifecycle_magic as lm
app = lm.App()

def typed(x: int) -> "int":
    return x

@dataclasses.dataclass
class Point:
    x: int
    many: typing.ClassVar[int] = 3

module = sys.modules["__main__"]
print(json.dumps({
    "name": __name__, "file": __file__, "doc": __doc__, "package": __package__,
    "argv": sys.argv, "path": sys.path[:2], "spec": repr(__spec__),
    "loader": type(__loader__).__name__, "builtins": type(__builtins__).__name__,
    "same": module.__dict__ is globals(),
    "annotations": [repr(one) for one in typed.__annotations__.values()],
    "fields": [(f.name, repr(f.type)) for f in dataclasses.fields(Point)],
    "source": inspect.getsource(typed) + inspect.getsource(Point),
    "code": typed.__code__.co_filename, "names": sorted(n for n in globals() if n[:2] == "__"),
    "beside": beside.value, "data": open("data.txt").read(),
}))
warnings.warn("noticed")
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "beside.py").write_text("value = 3\n")
    (tmp_path / "data.txt").write_text("data")
    (tmp_path / "bystander.py").write_text("")
    return tmp_path


def both(folder: Path, script: str, *words: str) -> list[subprocess.CompletedProcess[str]]:
    """Run the script by ``python``, and by the command as a module and as a program."""
    program = Path(sys.executable).with_name("lifecycle-magic")
    ways = ([sys.executable], [sys.executable, "-m", "lifecycle_magic", "run"], [program, "run"])
    environment = {**os.environ, "LIFECYCLE_MAGIC_ENGINE": "process"}
    return [
        subprocess.run(
            [*way, script, *words], cwd=folder, capture_output=True, text=True, env=environment
        )
        for way in ways
    ]


@pytest.mark.parametrize("future", ["", "annotations"])
def test_a_script_sees_what_python_shows_it(folder: Path, future: str) -> None:
    text = FACTS + TAIL
    if future:
        text = text.replace("import data", f"from __future__ import {future}\nimport data", 1)
    (folder / "scripts" / "script.py").write_text(text)
    (folder / "linked.py").symlink_to(folder / "scripts" / "script.py")
    for script in ("scripts/script.py", str(folder / "scripts" / "script.py"), "linked.py"):
        plain, *ours = both(folder, script, "--x", "1")
        assert plain.returncode == 0, plain.stderr
        for told in ours:
            assert told.stderr == plain.stderr
            assert json.loads(told.stdout) == json.loads(plain.stdout)


def test_a_script_does_not_import_from_where_the_command_was_started(folder: Path) -> None:
    (folder / "scripts" / "script.py").write_text(f"import bystander\n{HEAD}{TAIL}")
    for told in both(folder, "scripts/script.py"):
        assert told.returncode == 1
        assert "No module named 'bystander'" in told.stderr


@pytest.mark.parametrize(
    "text",
    [
        "# coding: latin-1\nprint('\u00e9t\u00e9')\n".encode("latin-1"),
        "\ufeffprint('\u00e9t\u00e9')\n".encode(),
        b"print('a')\r\nprint('b')\r\n",
    ],
)
def test_the_encoding_of_a_script_is_its_own(folder: Path, text: bytes) -> None:
    (folder / "script.py").write_bytes(text + (HEAD + TAIL).encode())
    plain, *ours = both(folder, "script.py")
    assert plain.returncode == 0, plain.stderr
    assert [told.stdout for told in ours] == [plain.stdout] * 2


def test_a_script_that_fails_shows_its_lines(folder: Path) -> None:
    (folder / "script.py").write_text(HEAD + TAIL + "def f():\n    return 1 / 0\nf()\n")
    plain, *ours = both(folder, "script.py")
    assert [told.stderr for told in ours] == [plain.stderr] * 2
    assert "    f()" in plain.stderr


def test_processes_that_a_script_spawns_find_its_functions(folder: Path) -> None:
    (folder / "script.py").write_text(
        HEAD + "import multiprocessing\ndef double(x): return 2 * x\n" + "@app.local_entrypoint()\n"
        "def main():\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(double, [1, 2]))\n"
        "if __name__ == '__main__':\n    main()\n"
    )
    for told in both(folder, "script.py"):
        assert told.stdout == "[2, 4]\n", told.stderr


@pytest.mark.parametrize(
    "test",
    ["__name__ == '__main__'", "'__main__' == __name__", "not __name__ != '__main__' and 1"],
)
def test_what_is_for_python_alone_does_not_run(folder: Path, test: str) -> None:
    (folder / "script.py").write_text(
        HEAD
        + "def name(): return __name__ == '__main__'\n"
        + TAIL
        + f"if {test}:\n    print('block')\nelse:\n    print('other')\nprint(name())\n"
    )
    plain, *ours = both(folder, "script.py")
    assert plain.stdout == "block\nTrue\n"
    assert [told.stdout for told in ours] == ["other\nTrue\n"] * 2


def test_a_script_with_a_main_block_alone_gets_a_message(folder: Path) -> None:
    (folder / "script.py").write_text(HEAD + "if __name__ == '__main__':\n    print('block')\n")
    told = both(folder, "script.py")[1]
    assert told.returncode == 1
    assert "no entry point (python script.py runs its `if __name__ ==" in told.stderr


def test_a_script_comes_from_the_standard_input(folder: Path) -> None:
    (folder / "beside.py").write_text("value = 3\n")
    code = (
        HEAD + "import beside\n@app.local_entrypoint()\ndef main(x: int): print(beside.value + x)"
    )
    told = subprocess.run(
        [sys.executable, "-m", "lifecycle_magic", "run", "-", "--x", "4"],
        cwd=folder,
        input=code,
        capture_output=True,
        text=True,
    )
    assert told.stdout == "7\n", told.stderr
