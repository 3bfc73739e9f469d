"""What ends with a Jupyter server: in a container of which it is the main process, everything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lifecycle_magic.ui.notebook import server_extension


@pytest.mark.parametrize(
    ("pid", "parent", "first", "ends_all"),
    [
        (1, 0, "jupyter-server", True),
        (7, 1, "tini", True),
        (7, 1, "systemd", False),
        (4711, 99, "tini", False),
    ],
)
def test_only_the_main_process_of_a_container_ends_all_others(
    pid: int, parent: int, first: str, ends_all: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: pid)
    monkeypatch.setattr(os, "getppid", lambda: parent)
    monkeypatch.setattr(Path, "read_text", lambda path: f"{first}\n")
    assert server_extension.is_main_process_of_container() is ends_all
