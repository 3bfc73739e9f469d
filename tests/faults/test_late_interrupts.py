"""An interrupt that comes when nothing runs, because the kernel went just then."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from lifecycle_magic.guest.interrupts import ANY, Interrupts, Target, ask


@pytest.fixture
def pipe() -> Iterator[tuple[int, Target]]:
    read, write = os.pipe()
    before = signal.getsignal(signal.SIGINT)
    yield write, Target(Interrupts(read))
    signal.signal(signal.SIGINT, before)
    os.close(read)
    os.close(write)


def test_what_lies_unread_in_the_socket_does_not_begin_once_the_container_goes(
    pipe: tuple[int, Target],
) -> None:
    write, target = pipe
    ask(write, ANY)
    signal.raise_signal(signal.SIGINT)
    for call in (7, 8):
        with pytest.raises(KeyboardInterrupt):
            target.begin(call)
