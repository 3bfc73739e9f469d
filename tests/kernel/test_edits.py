"""What an edit kept and what it did not, as a kernel and a terminal tell it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.notebook import Notebook, open_notebook

MODEL = """
%%lifecycle_cls
class Model:
    @lm.enter()
    def load(self):
        self.count = 1

    @lm.method()
    def go(self, x):
        return scaled(x) {more}
"""


@pytest.fixture(scope="module", params=[pytest.param("process", marks=pytest.mark.process)])
def notebook(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Notebook]:
    with open_notebook(request, tmp_path_factory) as one:
        one.ok("SCALE = 2\ndef scaled(x): return x * SCALE")
        one.ok(MODEL.format(more=""))
        yield one


def saved(folder: Path, more: str) -> Path:
    """Write the notebook as a front end saves it."""
    path = folder / "saved.ipynb"
    cell = {"cell_type": "code", "source": MODEL.format(more=more).strip()}
    path.write_text(json.dumps({"cells": [cell]}))
    return path


def terminal(*words: str) -> str:
    command = [sys.executable, "-m", "lifecycle_magic", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ})
    return done.stdout


def test_a_name_that_changes_under_a_running_class_is_reported_once(notebook: Notebook) -> None:
    assert notebook.ok("SCALE = 1 + 1").text == ""  # the same value
    shown = notebook.ok("SCALE = 3").text
    assert shown.startswith("Model still uses SCALE as of its last run. Fix: run the cell of Model")
    assert notebook.ok("SCALE = 4").text == ""
    assert "scaled()" in notebook.ok("def scaled(x): return x + SCALE").text
    assert "Model still uses" in notebook.ok("%lifecycle why Model").text
    notebook.ok(MODEL.format(more=""))
    assert "still uses" not in notebook.ok("%lifecycle why Model").text
    assert "still uses SCALE" in notebook.ok("SCALE = 5").text
    notebook.ok(MODEL.format(more=""))


def test_a_cell_that_makes_the_same_class_again_is_not_reported(notebook: Notebook) -> None:
    tok = "class Tok:\n    size = 1"
    notebook.ok(tok)
    notebook.ok(
        "%%lifecycle_cls\nclass Kinds:\n    @lm.method()\n"
        "    def go(self, kind=Tok):\n        return kind().size + Tok.size"
    )
    assert notebook.ok(tok).text == ""
    assert "still uses Tok" in notebook.ok("class Tok:\n    size = 2").text


def test_why_and_diff_in_notebook_and_terminal(notebook: Notebook, tmp_path: Path) -> None:
    notebook.ok(MODEL.format(more="+ 1"))
    kept = "Model: go() reloaded; the state that load() loaded is kept ("
    assert notebook.ok("%lifecycle why Model").text.startswith(kept)
    same = "Model: the class that runs is that of"
    assert notebook.ok("%lifecycle diff Model").text.startswith(same)
    path = saved(tmp_path, "+ 1")
    assert notebook.ok(f"%lifecycle diff Model {path}").text.startswith(same)
    path = saved(tmp_path, "- 1")
    lines = notebook.ok(f"%lifecycle diff Model {path}").text.splitlines()
    assert [line for line in lines if line[0] in "+-"] == [
        "--- running",
        f"+++ {path}",
        "-        return scaled(x) + 1",
        "+        return scaled(x) - 1",
    ]
    assert terminal("why", "Model").startswith(kept)
    assert terminal("diff", "Model", str(path)).splitlines() == lines


def test_what_can_not_be_compared_names_the_fix(notebook: Notebook, tmp_path: Path) -> None:
    path = saved(tmp_path, "")
    path.write_text(json.dumps({"cells": []}))
    shown = notebook.run(f"%lifecycle diff Model {path}")
    assert shown.error is not None
    assert "defines Model" in shown.error
    shown = notebook.run("%lifecycle diff Model nothing.ipynb")
    assert shown.error is not None
    assert "there is no file nothing.ipynb" in shown.error
