"""The README's first example, run cell by cell as it stands there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def shell(engine_name: str) -> Iterator[InteractiveShell]:
    """An IPython shell whose containers are gone afterwards."""
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell(config=config)
    yield shell
    shell.run_line_magic("unload_ext", "lifecycle_magic")


@pytest.mark.xdist_group("shell")
def test_the_first_example_works(shell: InteractiveShell) -> None:
    load, declare, call = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[:3]
    for cell in (load, declare):
        shell.run_cell(cell).raise_error()
    done = shell.run_cell(call)
    done.raise_error()
    assert len(done.result) == 2
    assert set(done.result) <= set(range(10))
