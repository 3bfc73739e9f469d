"""Sessions that end while their folders are listed: no listing fails."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lifecycle_magic.host import ledger, paths
from lifecycle_magic.ui.cli.drain import drain
from lifecycle_magic.ui.notebook import server_extension
from lifecycle_magic.ui.panel import snapshot


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A state folder in which sessions with a container come and go all the time."""
    paths.private_folder(tmp_path / "run")
    over = threading.Event()

    def come_and_go(name: str) -> None:
        session = tmp_path / "run" / name
        while not over.is_set():
            (session / "lm-model-1").mkdir(parents=True)
            (session / "lm-model-1").rmdir()
            session.rmdir()

    threads = [threading.Thread(target=come_and_go, args=(f"s{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    yield tmp_path
    over.set()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    "look",
    [
        snapshot.run_folders,
        lambda root: snapshot.damaged_folders(root / "run" / "s0"),
        ledger.needed,
        lambda root: drain(root, 0.0),
        lambda root: paths.matching(root / "run", "*/*"),
    ],
    ids=["run_folders", "damaged_folders", "needed", "drain", "matching"],
)
def test_a_listing_leaves_out_what_has_vanished(look: Any, root: Path) -> None:
    for _ in range(100):
        look(root)


def test_the_server_ends_although_waiting_for_exit_hooks_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run" / "session").mkdir(parents=True)
    (tmp_path / "run" / "session" / "card-lm-1.json").touch()
    extension = server_extension.LifecycleMagic(log=logging.getLogger("server"))

    async def shutdown_all() -> None:
        raise OSError("the kernels can't be reached")

    extension.serverapp = SimpleNamespace(kernel_manager=SimpleNamespace(shutdown_all=shutdown_all))
    monkeypatch.setattr(server_extension, "state_root", lambda: tmp_path)
    asyncio.run(extension.stop_extension())
    assert caplog.messages == ["could not wait for exit hooks"]
