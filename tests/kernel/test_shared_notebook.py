"""The guide to a model that several notebooks share, run twice as after a restart of the kernel."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from kernel.notebook_file import NOTEBOOKS, run_notebook, shown_text

pytestmark = [pytest.mark.kernel, pytest.mark.process, pytest.mark.timeout(400)]


def executed(folder: Path) -> str:
    """Run the notebook in a kernel of its own, and return what its cells show."""
    named = {
        "LIFECYCLE_MAGIC_ENGINE": "process",
        "JPY_SESSION_NAME": str(NOTEBOOKS / "shared.ipynb"),
    }
    return shown_text(run_notebook("shared", folder, **named))


def test_the_next_kernel_goes_on_where_the_one_before_was(tmp_path: Path, need_bwrap: str) -> None:
    first, second = executed(tmp_path), executed(tmp_path)
    for shown in (first, second):
        assert "168" in shown.splitlines()
        assert "below 100: 25" in shown
        assert "[0.25, 0.1229, 0.078498]" in shown
    assert "this instance has answered 0 calls" in first
    assert "this instance has answered 5 calls" in second
    assert "5 calls more, 10 in all" in second
    assert re.search(r"Primes.*adopted", second), second
    subprocess.run(
        [sys.executable, "-m", "lifecycle_magic", "stop", "Primes"], check=True, capture_output=True
    )
