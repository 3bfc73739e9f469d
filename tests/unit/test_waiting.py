"""Interrupts of a call whose threads wait for calls of other containers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lifecycle_magic.guest.interrupts import (
    SIGNAL,
    InterruptHandler,
    InterruptTarget,
    request_interrupt,
)
from lifecycle_magic.guest.waiting import Waiting

pytestmark = pytest.mark.every_python


@pytest.fixture
def pipe() -> Iterator[tuple[int, InterruptTarget]]:
    """Yield the supervisor's end of the cancel pipe, and the target that reads the other end."""
    read, write = os.pipe()
    before = {number: signal.getsignal(number) for number in (SIGNAL, signal.SIGINT)}
    yield write, InterruptTarget(InterruptHandler(read))
    for number, handler in before.items():
        signal.signal(number, handler)
    os.close(read)
    os.close(write)


def interrupt() -> None:
    signal.raise_signal(SIGNAL)


def test_an_interrupt_ends_the_waits_of_all_threads_of_a_call(
    pipe: tuple[int, InterruptTarget],
) -> None:
    write, target = pipe
    ended: list[str] = []
    target.begin(7)
    target.cancel_task = lambda: ended.append("task")
    first, second = in_turn(lambda: Waiting(target, lambda: ended.append("first")), 2)
    [third] = in_turn(lambda: Waiting(target, lambda: ended.append("third")), 1)
    first()  # begins
    second()
    first()  # ends, in the order in which they began
    second()
    third()
    request_interrupt(write, 7)
    interrupt()
    assert ended == ["third", "task"]
    third()
    request_interrupt(write, 7)
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def in_turn(make: Callable[[], Waiting], threads: int) -> list[Callable[[], None]]:
    """Return a function for each of ``threads`` that begins its wait, and ends it the next time."""

    def steps() -> Iterator[None]:
        with make():
            yield
        yield

    def on_a_thread() -> Callable[[], None]:
        turn = steps()
        pool = ThreadPoolExecutor(1)
        return lambda: pool.submit(next, turn).result()

    return [on_a_thread() for _ in range(threads)]


def test_the_wait_of_an_earlier_call_does_not_take_an_interrupt(
    pipe: tuple[int, InterruptTarget],
) -> None:
    write, target = pipe
    ended: list[str] = []
    target.begin(7)
    [left] = in_turn(lambda: Waiting(target, lambda: ended.append("left")), 1)
    left()
    target.end()
    target.mark_answered(7)
    target.begin(8)
    request_interrupt(write, 8)
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert not ended
    left()


def test_an_interrupt_right_before_a_wait_ends_it(pipe: tuple[int, InterruptTarget]) -> None:
    write, target = pipe
    ended: list[str] = []
    target.begin(7)
    request_interrupt(write, 7)
    with pytest.raises(KeyboardInterrupt), target:  # noqa: PT012
        interrupt()
        with Waiting(target, lambda: ended.append("wait")):
            assert ended == ["wait"]
    assert target.cancel_task is None
