"""The documentation site, built as ``make docs`` does: a warning is an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = Path(sys.executable).with_name("sphinx-build")


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(600)
def test_the_site_is_built_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_MAGIC_ENGINE", "process")
    monkeypatch.setenv("DOCS_EXECUTE", "some")  # test_guide_notebooks runs the others
    pages = tmp_path / "html"
    command = [BUILD, "-W", "--keep-going", "-q", "-d", tmp_path / "doctrees", "docs", pages]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    reference = (pages / "reference" / "api.html").read_text()
    assert 'id="lifecycle_magic.enter"' in reference
    quickstart = (pages / "notebooks" / "quickstart.html").read_text()
    assert "360 right" in quickstart  # the notebook ran
