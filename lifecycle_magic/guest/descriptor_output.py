"""Output that goes to descriptors 1 and 2 instead of ``sys.stdout``: of subprocesses and C code.

It reaches the kernel over the supervisor and the control connection, another way than answers. So
before a call that may have such output is answered, the worker asks for its way to be emptied:

    worker → supervisor   note ``settle``: read what is in the pipes now, and send it
    supervisor → kernel   the output, then event ``settle``
    kernel → supervisor   ``settled``: the output is shown
    supervisor → worker   the number of the request, through a pipe

A worker that has started no process, and whose supervisor has read nothing from the pipes so far,
asks nothing: its calls make no further system call.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import mmap
import os
import select
import struct
import termios
import threading
import time
from typing import TYPE_CHECKING

from lifecycle_magic.guest import forks

if TYPE_CHECKING:
    from lifecycle_magic.guest.output import SupervisorPipe

SETTLE_SECONDS = 1.0
"""Seconds that an answer waits at most. A kernel that is that late shows the output later."""

_NUMBER = struct.Struct("=Q")


class ReadCount:
    """The count of the supervisor's reads of output, in memory that it shares with the worker.

    It counts before it reads: to the worker, what has left a pipe has been counted.
    """

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, _NUMBER.size)
        self.count = memoryview(self._page).cast("Q")  # of one number

    def add(self) -> None:
        """Count a read that is about to happen. Only the supervisor does."""
        self.count[0] += 1


def answer(pipe: int, number: int) -> None:
    """Write to the worker that its request with this number is settled."""
    with contextlib.suppress(OSError):  # the worker has exited, or reads no more
        os.write(pipe, _NUMBER.pack(number))


class DescriptorOutput:
    """The worker's side. ``settled`` is the pipe that the supervisor writes numbers to."""

    def __init__(self, reads: ReadCount, notes: SupervisorPipe, settled: int) -> None:
        self.reads = reads.count
        self._notes = notes
        self._settled = settled
        self._seen = 0  # the count of reads whose output is shown
        self._number = 0
        self._lock = threading.Lock()

    def settle(self) -> None:
        """Wait until output that was written so far is shown, at most `SETTLE_SECONDS`.

        What running processes write meanwhile comes when it comes.
        """
        unread = holds_bytes(1) or holds_bytes(2)
        count = self.reads[0]  # after the pipes: what has just left them is counted
        if forks.in_child or (count == self._seen and not unread):
            return
        with self._lock:
            self._number += 1
            self._notes.send("settle", number=self._number)
            if self._wait(self._number):
                self._seen = max(self._seen, count)

    def _wait(self, number: int) -> bool:
        poll = select.poll()
        poll.register(self._settled, select.POLLIN)
        deadline = time.monotonic() + SETTLE_SECONDS
        while (left := deadline - time.monotonic()) > 0 and poll.poll(left * 1000):
            data = os.read(self._settled, _NUMBER.size)
            if len(data) < _NUMBER.size:
                return False  # the supervisor has exited
            if _NUMBER.unpack(data)[0] == number:
                return True
        return False


def holds_bytes(descriptor: int) -> bool:
    """Return whether a pipe holds bytes; True where the user's code put something else there."""
    held = array.array("i", [0])
    try:
        fcntl.ioctl(descriptor, termios.FIONREAD, held)
    except OSError:
        return False  # closed
    return held[0] > 0
