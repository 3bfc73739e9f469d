"""Tickets in a FIFO: which of the inputs that were sent ahead a worker may still begin.

The kernel sends inputs to a worker ahead of their turn, so that the next one is there when one
ends. If another container becomes idle, the kernel wants back the inputs that have not begun. But
data in a socket can't be read back, and a request to the worker would have to wait for the method
that runs. So each input that is sent ahead (an OFFER) comes with one byte, a ticket, in a pipe next
to the socket. The side that reads the byte has the input: the worker before it begins the input, or
the kernel to send the input to another container. The operating system hands out each byte once.

All bytes are equal, and the worker reads them in the order of its inputs. So the bytes that the
kernel reads stand for the last inputs: the worker finds no byte for them, answers SKIPPED, and
continues.

The pipe is a FIFO in the container's run folder. A container on another machine has none, and then
nothing can be taken back.
"""

from __future__ import annotations

import os


def path(run: str, slot: int) -> str:
    """Return the path of a data connection's FIFO in the run folder ``run``, as this side sees
    it.
    """
    return os.path.join(run, f"tickets-{slot}")


class TicketFifo:
    """One end of the FIFO of one data connection. Raises `OSError` if there is none."""

    def __init__(self, path: str) -> None:
        # Open for reading and writing on both sides: opening never waits, and no end is reported.
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)

    def put(self, count: int) -> None:
        """Allow ``count`` more inputs to begin. Call this before they are sent."""
        os.write(self._fd, bytes(count))

    def take(self, count: int) -> int:
        """Take up to ``count`` tickets that are left, and return how many there were."""
        if count <= 0:
            return 0
        try:
            return len(os.read(self._fd, count))
        except BlockingIOError:
            return 0

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
