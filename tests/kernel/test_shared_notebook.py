"""The guide to a model that several notebooks share, run twice as after a restart of the kernel."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from kernel.harness import kernel_environment

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "shared.ipynb"

pytestmark = [pytest.mark.kernel, pytest.mark.process, pytest.mark.timeout(400)]


def executed(folder: Path) -> str:
    """Run the notebook in a kernel of its own, and return what its cells show."""
    import nbclient  # takes a second, which no test that is only collected should cost
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    named = {"LIFECYCLE_MAGIC_ENGINE": "process", "JPY_SESSION_NAME": str(NOTEBOOK)}
    client.execute(env={**kernel_environment(folder / "tmp"), **named})
    return "\n".join(
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    )


def test_the_next_kernel_goes_on_where_the_one_before_was(tmp_path: Path, need_bwrap: str) -> None:
    (tmp_path / "tmp").mkdir()
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
