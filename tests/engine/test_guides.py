"""The guides of the documentation, run block by block as they stand there.

Other tests hold both engines to the same behaviour. So a page runs on one of them, and on each if
it shows what differs between the engines.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from engine.pages import blocks, run
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

GUIDES = sorted((Path(__file__).parents[2] / "docs" / "guides").glob("*.md"))
# A page that is not listed here runs on each engine.
ONE_ENGINE = {
    "calls": "docker",
    "containers": "docker",
    "secrets-volumes": "docker",
    "web": "docker",
    "engines": "process",
    "first": "process",
    "hooks": "process",
    "index": "process",
    "modal": "process",
    "notebook": "process",
}


def _cases() -> list[object]:
    return [
        pytest.param(page, name, id=f"{page.stem}-{name}", marks=getattr(pytest.mark, name))
        for page in GUIDES
        for name in ("docker", "process")
        if ONE_ENGINE.get(page.stem, name) == name
    ]


@pytest.fixture
def shell(
    engine_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InteractiveShell]:
    """An IPython shell in an empty folder; its containers are stopped afterwards."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.chdir(folder)
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell(config=config)
    yield shell
    if "lifecycle_magic" in shell.extension_manager.loaded:
        shell.run_line_magic("unload_ext", "lifecycle_magic")


@pytest.mark.xdist_group("shell")
@pytest.mark.parametrize(("page", "engine_name"), _cases(), indirect=["engine_name"])
def test_a_guide_does_what_it_says(page: Path, shell: InteractiveShell, engine_name: str) -> None:
    ran = run(page, shell, engine_name)
    cells = [block for block in blocks(page) if block.language == "python"]
    assert ran or not cells, f"no block of {page.name} was run"
