"""Who may begin an input that was sent ahead."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lifecycle_magic.wire import ticket_fifo
from lifecycle_magic.wire.ticket_fifo import TicketFifo


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[TicketFifo, TicketFifo]]:
    path = ticket_fifo.path(str(tmp_path), 0)
    os.mkfifo(path)
    with closing(TicketFifo(path)) as kernel, closing(TicketFifo(path)) as worker:
        yield kernel, worker


def test_no_turn_starts_before_it_was_given(ends: tuple[TicketFifo, TicketFifo]) -> None:
    assert ends[0].take(1) == ends[1].take(1) == 0


def test_what_one_side_took_the_other_does_not_get(ends: tuple[TicketFifo, TicketFifo]) -> None:
    kernel, worker = ends
    kernel.put(3)
    assert worker.take(1) == 1
    assert kernel.take(64) == 2
    assert worker.take(1) == 0


def test_asking_for_none_gets_none(ends: tuple[TicketFifo, TicketFifo]) -> None:
    ends[0].put(1)
    assert ends[0].take(0) == 0
    assert ends[1].take(1) == 1


def test_each_turn_is_taken_once_though_both_sides_are_after_it(
    ends: tuple[TicketFifo, TicketFifo],
) -> None:
    kernel, worker = ends
    given, taken = 2000, [0, 0]
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            taken[0] += worker.take(1)

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(given // 10):
        kernel.put(10)
        taken[1] += kernel.take(5)
    done.set()
    thread.join()
    assert sum(taken) + kernel.take(given) == given


def test_without_a_pipe_there_are_no_turns(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="tickets-0"):
        TicketFifo(ticket_fifo.path(str(tmp_path), 0))
