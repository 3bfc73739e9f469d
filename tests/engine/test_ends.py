"""Ends at a bad moment: while a container starts, or while somebody waits for its exit."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from engine.work import Folder, Site

import lifecycle_magic as lm
from lifecycle_magic.container.registry import running_in
from lifecycle_magic.exception import StartError
from lifecycle_magic.lifecycle.history import HistoryEntry
from lifecycle_magic.session import session
from lifecycle_magic.ui import commands


class Slow:
    """Its hooks say when they begin, and wait to be let go."""

    def __init__(self, path: str) -> None:
        self.folder = Folder(path)

    @lm.enter()
    def load(self) -> None:
        self.folder.note("entering")
        self.folder.wait("enter")

    @lm.method()
    def echo(self, x: int) -> int:
        return x

    @lm.exit()
    def leave(self) -> None:
        self.folder.note("exiting")
        self.folder.wait("leave")


def interrupt_at(site: Site, event: str) -> None:
    """Have the main thread interrupted when this is noted."""

    def interrupt() -> None:
        site.folder.wait(event)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()


def told(name: str) -> HistoryEntry:
    """What the history tells of the one container of that name."""
    [entry] = [one for one in session.current().history.entries() if one.container == name]
    return entry


def test_stop_ends_a_container_that_still_enters(site_on_each: Site) -> None:
    slow = site_on_each.instance(Slow, exit_grace=3)
    waiting = slow.echo.spawn(1)
    site_on_each.folder.wait("entering")
    [container] = session.current().containers()
    site_on_each.app.stop()
    with pytest.raises(StartError, match=r"app\.stop\(\)"):
        waiting.get()
    assert session.current().containers() == []
    assert told(container.name).why == "it was stopped before it was ready: app.stop()"
    assert site_on_each.folder.events() == {"entering"}
    site_on_each.folder.note("enter")
    site_on_each.folder.note("leave")
    assert slow.echo.remote(5) == 5


@pytest.mark.process
def test_an_interrupted_start_ends_its_container(site: Site) -> None:
    slow = site.instance(Slow)
    [(_, service, _)] = site.app.declared()
    interrupt_at(site, "entering")
    with pytest.raises(KeyboardInterrupt):
        service.open_pool((site.folder.path,), {}).warm()
    [entry] = session.current().history.entries()[-1:]
    assert entry.why == "it was stopped before it was ready: the wait for it was interrupted"
    site.folder.note("enter")
    site.folder.note("leave")
    assert slow.echo.spawn(5).get(60) == 5


@pytest.mark.process
def test_a_stop_that_was_interrupted_forgets_nothing(site: Site) -> None:
    site.folder.note("enter")
    assert site.instance(Slow).echo.remote(1) == 1
    current = session.current()
    [container] = current.containers()
    interrupt_at(site, "exiting")
    with pytest.raises(KeyboardInterrupt):
        site.app.stop()
    assert current.containers() == [container]
    assert running_in(current.folder) == [container]
    assert container.name in str(commands.run("ps", current))
    threading.Timer(0, site.folder.note, ["leave"]).start()
    assert session.close("the test is over") == [container]
    assert container.exited.is_set()
    assert [hook.hook for hook in told(container.name).hooks] == ["leave"]
    assert not current.folder.exists()


@pytest.mark.process
def test_a_history_that_can_not_be_written_keeps_no_class_from_going_on(
    site: Site, tmp_path: Path
) -> None:
    site.folder.note("enter")
    site.folder.note("leave")
    slow = site.instance(Slow)
    assert slow.echo.remote(1) == 1
    current = session.current()
    path = current.root / "history.jsonl"
    if path.exists():
        path.rename(tmp_path / "kept")
    path.mkdir()
    try:
        site.app.stop()
        assert current.containers() == []
    finally:
        path.rmdir()
        if (tmp_path / "kept").exists():
            (tmp_path / "kept").rename(path)
    assert slow.echo.remote(2) == 2
