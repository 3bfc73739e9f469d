"""The guide to web endpoints, run from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kernel.notebook_file import run_notebook, shown_text

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(400)]


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("process", marks=pytest.mark.process),
    ],
)
def test_it_serves_what_it_shows(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    request.getfixturevalue("need_docker" if engine == "docker" else "need_bwrap")
    text = shown_text(run_notebook("web", tmp_path, LIFECYCLE_MAGIC_ENGINE=engine))
    assert "'json'" in text
    assert re.search(r"\d{3} modules\n+422 without a word", text)
    assert "401 without the token" in text
    assert "zipfile\nzipimport\nzlib\nzoneinfo" in text
