"""The monitor: sockets, timers and other threads wake it, in the right order, and nothing else
does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from lifecycle_magic.monitor import Monitor


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    made = Monitor("test-monitor")
    yield made
    made.stop()


def test_a_readable_socket_calls_back_until_it_is_unwatched(monitor: Monitor) -> None:
    one, other = socket.socketpair()
    got: list[bytes] = []
    twice = threading.Event()

    def read() -> None:
        got.append(other.recv(1))
        if len(got) == 2:
            monitor.unwatch(other)
            twice.set()

    with one, other:
        monitor.watch(other, read)
        one.sendall(b"ab")
        assert twice.wait(10)
        one.sendall(b"c")
        settled = threading.Event()
        monitor.soon(settled.set)
        assert settled.wait(10)
        assert got == [b"a", b"b"]


def test_timers_run_in_the_order_of_their_times(monitor: Monitor) -> None:
    ran: list[str] = []
    done = threading.Event()
    monitor.later(0.06, lambda: (ran.append("late"), done.set()))
    monitor.later(0.02, lambda: ran.append("early"))
    assert done.wait(10)
    assert ran == ["early", "late"]


def test_a_cancelled_timer_does_not_run(monitor: Monitor) -> None:
    ran: list[str] = []
    done = threading.Event()
    monitor.later(0.01, lambda: ran.append("cancelled")).cancel()
    monitor.later(0.05, done.set)
    assert done.wait(10)
    assert ran == []


def test_a_callback_that_raises_does_not_end_the_thread(
    monitor: Monitor, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise RuntimeError("broken callback")

    done = threading.Event()
    monitor.soon(broken)
    monitor.soon(done.set)
    assert done.wait(10)
    assert "broken callback" in capsys.readouterr().err


def test_callbacks_run_on_its_own_thread(monitor: Monitor) -> None:
    seen: list[bool] = []
    done = threading.Event()
    monitor.soon(lambda: (seen.append(monitor.on_thread), done.set()))
    assert done.wait(10)
    assert seen == [True]
    assert not monitor.on_thread
