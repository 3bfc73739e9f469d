"""The sdist and the wheel, built and tried as ``make dist`` does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "dist.py"


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(600)
def test_the_wheel_runs_the_demo_in_an_environment_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, tmp_path / "dist"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    kinds = sorted(path.suffix for path in (tmp_path / "dist").iterdir() if path.suffix != "")
    assert kinds == [".gz", ".whl"]
