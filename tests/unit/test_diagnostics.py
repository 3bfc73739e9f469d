"""The package's log records about its own work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import lifecycle_magic as lm

app = lm.App("logged", engine="process", secrets=[lm.Secret.from_dict({"KEY": "very-secret"})])

@app.cls()
class Model:
    @lm.method()
    def echo(self, value):
        return value

with app.run():
    for _ in range(3):
        assert Model().echo.remote("an argument") == "an argument"
"""


def run(tmp_path: Path, log: str) -> subprocess.CompletedProcess[str]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    env = {**os.environ, "LIFECYCLE_MAGIC_LOG": log}
    return subprocess.run([sys.executable, program], env=env, capture_output=True, text=True)


@pytest.mark.process
def test_the_variable_turns_the_log_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = run(tmp_path, f"debug:{log}")
    assert done.returncode == 0, done.stderr
    text = log.read_text()
    moves = re.findall(r"DEBUG lifecycle_magic.container.container .*? of Model: (\w+ → \w+)", text)
    assert moves[:3] == ["building → starting", "starting → entering", "entering → idle"]
    assert moves[-1] == "exiting → exited"
    assert len(moves) < 8  # no line for a warm call
    assert "very-secret" not in text
    assert "an argument" not in text


@pytest.mark.process
def test_without_it_nothing_is_written(tmp_path: Path) -> None:
    done = run(tmp_path, "")
    assert done.returncode == 0, done.stderr
    assert "lifecycle_magic." not in done.stderr


def test_a_level_that_is_unknown_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, "loud")
    assert done.returncode == 1
    assert "LIFECYCLE_MAGIC_LOG=loud: unknown level. Fix: set it to debug" in done.stderr
