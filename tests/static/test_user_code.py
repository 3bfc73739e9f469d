"""What type checkers find in code that users write: its mistakes, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

CODE = Path(__file__).with_name("user_code.py")
ROOT = CODE.parents[2]
LINES = CODE.read_text().splitlines()


def mistakes(checker: str) -> list[int]:
    """Return the numbers of the lines that ``checker`` has to refuse."""
    mark = re.compile(rf"  # error($| of {checker}\b)")
    return [number for number, line in enumerate(LINES, 1) if mark.search(line)]


def test_mypy_finds_the_mistakes_alone(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--no-error-summary"]
    command += ["--config-file=", str(CODE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = re.findall(r"user_code\.py:(\d+): error", done.stdout)
    assert sorted({int(number) for number in found}) == mistakes("mypy"), done.stdout + done.stderr


def test_pyright_finds_the_mistakes_alone() -> None:
    pytest.importorskip("pyright")
    command = [sys.executable, "-m", "pyright", "--outputjson", "-p", str(CODE.parent), str(CODE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    found = {
        one["range"]["start"]["line"] + 1
        for one in report["generalDiagnostics"]
        if one["severity"] == "error"
    }
    assert sorted(found) == mistakes("pyright"), done.stdout
