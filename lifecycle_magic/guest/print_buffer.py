"""The way of printed text from ``sys.stdout`` to the caller's cell and to the log.

A frame for every line would cost two system calls and two wakeups each, which is most of the time
of a method that prints thousands of lines. So only the first line of a burst is sent at once. The
lines that follow are sent together: after `BATCH_SECONDS`, when there are `BATCH_CHARS`, or before
anything that must come after them, such as the value of the call. Until then they are in the
`PrintJournal`.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from lifecycle_magic.guest.late_sender import LateSender
from lifecycle_magic.guest.print_journal import BATCH_SECONDS
from lifecycle_magic.wire.output_streams import DISPLAY

if TYPE_CHECKING:
    from lifecycle_magic.guest.lane import Lane
    from lifecycle_magic.guest.output import SupervisorPipe
    from lifecycle_magic.guest.print_journal import PrintJournal

BATCH_CHARS = 1 << 13
"""Characters that wait at most; as UTF-8 with escapes, these fit into the journal."""


of_worker: PrintBuffer | None = None
"""The buffer of this process, if it is a worker."""


class PrintBuffer:
    """Text of all lanes and both streams, in the order in which it was printed.

    Any thread may print and flush, and so may a signal handler in the middle of either.
    """

    def __init__(self, journal: PrintJournal, pipe: SupervisorPipe) -> None:
        self.is_pending = False  # until all text is sent
        self.is_for_notebook = False  # whose cells show figures
        self.journal = journal
        self._pipe = pipe
        self._queue: deque[tuple[Lane | None, str, str, str]] = deque()
        self._lock = threading.RLock()
        self._writer: int | None = None  # the thread that holds the lock
        self._batch: list[str] = []
        self._chars = 0
        self._lane: Lane | None = None  # of the batch, as is the stream
        self._stream = ""
        self._sent = 0.0  # when text was sent last, by time.monotonic
        self._late = LateSender(self.flush, self._lock)
        os.register_at_fork(after_in_child=self._in_child)

    def add(self, lane: Lane | None, stream: str, text: str, rich: str = "") -> None:
        """Take text for the lane's cell and for the log.

        ``rich``: a message of `lifecycle_magic.guest.rich_output`, for the cell instead of the
        text.
        """
        self._queue.append((lane, stream, text, rich))
        self.is_pending = True
        self._work(flush=False)

    def log(self, stream: str, text: str) -> None:
        """Take text for the log only."""
        self.flush_if_pending()
        self._pipe.send("print", stream=stream, text=text, shown=True)

    def flush(self) -> None:
        """Send everything that was printed so far."""
        self._work(flush=True)

    def flush_before_fork(self) -> None:
        """Send everything, so that the child has no part of it.

        The thread that sends late text ends: Python 3.12 warns of a fork where there are threads.
        """
        if self._writer != threading.get_ident():
            self.flush_if_pending()
            self._late.end()

    def flush_if_pending(self) -> None:
        """Send everything that was printed so far, if there is anything."""
        if self.is_pending:
            self.flush()

    def _work(self, *, flush: bool) -> None:
        if self._writer == threading.get_ident():
            return  # a signal handler: the code that it interrupted goes on with the queue
        while True:
            with self._pipe.hold_interrupts(), self._lock:
                self._writer = threading.get_ident()
                try:
                    while self._queue:
                        self._take(*self._queue.popleft())
                    if flush and self._batch:
                        self._send_batch()
                finally:
                    self._writer = None
                if not self._queue:
                    self.is_pending = bool(self._batch)
                    return

    def _take(self, lane: Lane | None, stream: str, text: str, rich: str) -> None:
        if self._batch and (
            rich
            or lane is not self._lane
            or stream != self._stream
            or self._chars + len(text) > BATCH_CHARS
        ):
            self._send_batch()
        if rich:
            shown = lane is not None and lane.send_output(DISPLAY, rich)
            self._pipe.send("print", stream=stream, text=text, shown=shown)
            return
        is_burst = time.monotonic() - self._sent < BATCH_SECONDS
        if not self._batch:
            if not is_burst or len(text) > BATCH_CHARS or not self._late.send_in(BATCH_SECONDS):
                self._send(lane, stream, text)
                return
            self._lane, self._stream = lane, stream
        self._batch.append(text)
        self._chars += len(text)
        slot = lane.slot if lane is not None and lane.has_reader else -1
        self.journal.append(stream, slot, text.encode("utf-8", "backslashreplace"))
        if not is_burst:
            self._send_batch()  # the thread that sends late text got no turn

    def _send_batch(self) -> None:
        text = "".join(self._batch)
        self._batch, self._chars = [], 0
        self._send(self._lane, self._stream, text, self.journal)
        self._lane = None

    def _send(
        self, lane: Lane | None, stream: str, text: str, journal: PrintJournal | None = None
    ) -> None:
        shown = lane is not None and lane.send_output(stream, text)
        if journal is None:
            self._pipe.send("print", stream=stream, text=text, shown=shown)
        else:
            if shown:
                journal.mark_shown()
            number = journal.number
            self._pipe.send("print", stream=stream, text=text, shown=shown, number=number)
            journal.begin_next()
        self._sent = time.monotonic()

    def _in_child(self) -> None:
        self._lock = threading.RLock()
        self._writer = None
        self._queue.clear()
        self._batch, self._chars, self.is_pending = [], 0, False
        self._late = LateSender(self.flush, self._lock)
