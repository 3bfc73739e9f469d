"""The event_loop: sockets, timers and other threads wake it, in the right order, and nothing else
does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from lifecycle_magic.threads.event_loop import EventLoop


@pytest.fixture
def event_loop() -> Iterator[EventLoop]:
    made = EventLoop("test-event-loop")
    yield made
    made.stop()


def test_a_readable_socket_calls_back_until_it_is_unwatched(event_loop: EventLoop) -> None:
    one, other = socket.socketpair()
    got: list[bytes] = []
    twice = threading.Event()

    def read() -> None:
        got.append(other.recv(1))
        if len(got) == 2:
            event_loop.unwatch(other)
            twice.set()

    with one, other:
        event_loop.watch(other, read)
        one.sendall(b"ab")
        assert twice.wait(10)
        one.sendall(b"c")
        settled = threading.Event()
        event_loop.call_soon(settled.set)
        assert settled.wait(10)
        assert got == [b"a", b"b"]


def test_a_loop_that_stops_reads_what_has_arrived() -> None:
    event_loop = EventLoop("stopping")
    one, other = socket.socketpair()
    got: list[bytes] = []

    def read() -> None:
        got.append(other.recv(1))
        if not got[-1]:
            event_loop.unwatch(other)

    with one, other:
        held, go_on = threading.Event(), threading.Event()
        event_loop.call_soon(lambda: (held.set(), go_on.wait(10)))
        assert held.wait(10)
        event_loop.watch(other, read)
        one.sendall(b"ab")
        one.shutdown(socket.SHUT_WR)
        stopping = threading.Thread(target=event_loop.stop)
        stopping.start()
        while not event_loop._stopping:
            pass
        go_on.set()
        stopping.join(10)
        assert got == [b"a", b"b", b""]


def test_timers_run_in_the_order_of_their_times(event_loop: EventLoop) -> None:
    ran: list[str] = []
    done = threading.Event()
    event_loop.call_later(0.06, lambda: (ran.append("late"), done.set()))
    event_loop.call_later(0.02, lambda: ran.append("early"))
    assert done.wait(10)
    assert ran == ["early", "late"]


def test_a_cancelled_timer_does_not_run(event_loop: EventLoop) -> None:
    ran: list[str] = []
    done = threading.Event()
    event_loop.call_later(0.01, lambda: ran.append("cancelled")).cancel()
    event_loop.call_later(0.05, done.set)
    assert done.wait(10)
    assert ran == []


def test_a_callback_that_raises_does_not_end_the_thread(
    event_loop: EventLoop, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise RuntimeError("broken callback")

    done = threading.Event()
    event_loop.call_soon(broken)
    event_loop.call_soon(done.set)
    assert done.wait(10)
    assert "broken callback" in capsys.readouterr().err


def test_callbacks_run_on_its_own_thread(event_loop: EventLoop) -> None:
    seen: list[bool] = []
    done = threading.Event()
    event_loop.call_soon(lambda: (seen.append(event_loop.is_current_thread), done.set()))
    assert done.wait(10)
    assert seen == [True]
    assert not event_loop.is_current_thread
