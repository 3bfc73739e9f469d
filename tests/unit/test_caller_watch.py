"""Callers that close their connections are noticed, whatever the system can tell."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle_magic.services import caller_watch
from lifecycle_magic.services.caller_watch import CallerWatch, EpollWatch, LookingWatch
from lifecycle_magic.threads.event_loop import EventLoop


@pytest.fixture(params=[EpollWatch, LookingWatch])
def watch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[CallerWatch]:
    monkeypatch.setattr(caller_watch, "LOOK_SECONDS", 0.001)
    loop = EventLoop("test")
    found: CallerWatch = request.param(loop)
    yield found
    found.close()
    loop.stop()


def test_an_end_is_noticed_once_and_data_is_not(watch: CallerWatch) -> None:
    noticed, others = threading.Event(), threading.Event()
    ours, theirs = socket.socketpair()
    kept, quiet = socket.socketpair()
    with ours, theirs, kept, quiet:
        watch.add(ours.fileno(), noticed.set)
        watch.add(kept.fileno(), others.set)
        quiet.sendall(b"x")
        theirs.close()
        assert noticed.wait(20)
        assert not others.is_set()
        watch.remove(kept.fileno())
        watch.remove(ours.fileno())


def test_a_socket_that_can_not_be_watched_is_served(watch: CallerWatch, tmp_path: Path) -> None:
    with open(tmp_path / "file", "x") as file:  # epoll(7) takes no regular file
        watch.add(file.fileno(), lambda: None)
        watch.remove(file.fileno())
