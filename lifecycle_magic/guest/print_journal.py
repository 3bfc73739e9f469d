"""Text that the worker has printed and not sent yet, in memory that it shares with the supervisor.

The supervisor reads it when the worker has exited: neither SIGKILL nor ``os._exit`` loses a line.
"""

from __future__ import annotations

import mmap
from typing import NamedTuple

BATCH_SECONDS = 0.005
"""Seconds that printed text waits at most, while Python code of the worker can run."""

_STREAMS = ("stdout", "stderr")
_NUMBER, _SIZE, _STREAM, _SLOT, _SHOWN = range(5)  # of the head
_HEAD_BYTES = 40
_MAX_SLOTS = 1 << 10
_START = _HEAD_BYTES + _MAX_SLOTS  # of the text

CAPACITY_BYTES = (1 << 16) - _START
"""Bytes of text that a batch holds at most."""


class Unsent(NamedTuple):
    """A batch that the worker did not report.

    ``shown``: the cell has shown it. ``slot`` is the number of the data connection that shows it,
    -1 for none.
    """

    stream: str
    text: str
    shown: bool
    slot: int


class PrintJournal:
    """One batch of text of one stream at a time. Batches have numbers, from 0 on.

    The worker appends, sends the batch to the cell, reports it to the supervisor by its number, and
    begins the next one. A worker that exits between two of these steps leaves enough for the
    supervisor to see which of them it has taken.
    """

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, _START + CAPACITY_BYTES)
        self._head = memoryview(self._page)[:_HEAD_BYTES].cast("Q")
        self._in_frame = memoryview(self._page)[_HEAD_BYTES:_START]  # a flag for each slot

    @property
    def number(self) -> int:
        """The number of the current batch."""
        return self._head[_NUMBER]

    @property
    def has_text(self) -> bool:
        """Return whether the worker has text to send. Its supervisor may ask while it runs."""
        return self._head[_SIZE] != 0

    def append(self, stream: str, slot: int, data: bytes) -> None:
        """Append encoded text. A batch is for one stream and slot, and fits into the capacity."""
        head, size = self._head, self._head[_SIZE]
        if not size:
            head[_STREAM] = _STREAMS.index(stream)
            head[_SLOT] = slot + 1
            head[_SHOWN] = 0
        start = _START + size
        self._page[start : start + len(data)] = data
        head[_SIZE] = size + len(data)

    def mark_shown(self) -> None:
        """Note that the cell has got the batch."""
        self._head[_SHOWN] = 1

    def begin_frame(self, slot: int) -> None:
        """Note that a frame is sent that a dying worker may leave incomplete."""
        self._in_frame[slot % _MAX_SLOTS] = 1

    def end_frame(self, slot: int) -> None:
        """Note that the frame is complete."""
        self._in_frame[slot % _MAX_SLOTS] = 0

    def begin_next(self) -> None:
        """Begin the next batch: the supervisor has got the report of the current one."""
        self._head[_SIZE] = 0
        self._head[_NUMBER] += 1

    def unsent(self, reported: int) -> Unsent | None:
        """Return the batch that an exited worker left. ``reported`` is the last number that it
        reported.

        The user's code may have written anything here.
        """
        number, size, stream, slot, shown = self._head
        if number == reported or not 0 < size <= CAPACITY_BYTES:
            return None
        data = self._page[_START : _START + size]
        text = data.decode("utf-8", "replace")
        slot = -1 if self._in_frame[(slot - 1) % _MAX_SLOTS] else slot - 1
        return Unsent(_STREAMS[stream % 2], text, shown == 1, slot)
