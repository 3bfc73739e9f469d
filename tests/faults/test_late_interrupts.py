"""An interrupt that comes when nothing runs, because the kernel went just then."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from lifecycle_magic.guest.interrupts import (
    ANY_CALL,
    SIGNAL,
    InterruptHandler,
    InterruptTarget,
    request_interrupt,
)


@pytest.fixture
def pipe() -> Iterator[tuple[int, InterruptTarget]]:
    read, write = os.pipe()
    before = {number: signal.getsignal(number) for number in (SIGNAL, signal.SIGINT)}
    yield write, InterruptTarget(InterruptHandler(read))
    for number, handler in before.items():
        signal.signal(number, handler)
    os.close(read)
    os.close(write)


def test_what_lies_unread_in_the_socket_does_not_begin_once_the_container_goes(
    pipe: tuple[int, InterruptTarget],
) -> None:
    write, target = pipe
    request_interrupt(write, ANY_CALL)
    signal.raise_signal(SIGNAL)
    for call in (7, 8):
        with pytest.raises(KeyboardInterrupt):
            target.begin(call)
