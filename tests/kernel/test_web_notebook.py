"""The guide to web endpoints, run from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kernel.harness import kernel_environment

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "web.ipynb"

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
    import nbclient  # takes a second, which no test that is only collected should cost
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute(env={**kernel_environment(tmp_path), "LIFECYCLE_MAGIC_ENGINE": engine})
    printed = [
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    ]
    text = "\n".join(printed)
    assert "'json'" in text
    assert re.search(r"\d{3} modules\n+422 without a word", text)
    assert "401 without the token" in text
    assert "zipfile\nzipimport\nzlib\nzoneinfo" in text
