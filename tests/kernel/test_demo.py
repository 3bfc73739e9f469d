"""``lifecycle-magic demo``, but for the quickstart itself, which has a test of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lifecycle_magic.ui.cli import demo

pytestmark = pytest.mark.kernel


def run(folder: Path, *cells: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    import nbformat  # takes a second, which no test that is only collected should cost

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    source, target = folder / "some.ipynb", folder / "some.executed.ipynb"
    nbformat.write(notebook, source)
    code = f"""
import pathlib, sys
from lifecycle_magic.ui.cli import demo
sys.exit(demo.run(pathlib.Path({str(target)!r}), pathlib.Path({str(source)!r})))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return told, target


def test_it_prints_what_each_cell_printed_and_where_the_executed_notebook_lies(tmp_path: Path):
    told, target = run(tmp_path, "x = 3\nprint('hello')", "x + 1", "import os; os.getcwd()")
    assert told.returncode == 0, told.stderr
    lines = [line for line in told.stdout.splitlines() if line]
    assert lines == [
        "── cell 1: x = 3 …",
        "hello",
        "── cell 2: x + 1",
        "4",
        "── cell 3: import os; os.getcwd()",
        repr(str(tmp_path)),
        f"Executed notebook: {target}",
    ]
    import nbformat  # takes a second, which no test that is only collected should cost

    assert nbformat.read(target, as_version=4).cells[1].outputs[0].data["text/plain"] == "4"


def test_a_failing_cell_fails_it_and_shows_the_error_once(tmp_path: Path):
    told, target = run(tmp_path, "1 / 0", "print('never')")
    assert told.returncode == 1
    assert told.stdout.count("ZeroDivisionError: division by zero") == 1
    assert "\x1b" not in told.stdout
    assert "never" not in told.stdout
    assert "The cell above failed" in told.stderr
    import nbformat  # takes a second, which no test that is only collected should cost

    assert nbformat.read(target, as_version=4).cells[0].outputs[0].ename == "ZeroDivisionError"


def test_the_quickstart_is_found():
    assert demo.find().name == "quickstart.ipynb"


def test_the_executed_notebook_lies_beside_the_caller_or_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert demo.executed_path(None) == tmp_path / "quickstart.executed.ipynb"
    assert demo.executed_path(Path("x.ipynb")) == tmp_path / "x.ipynb"
