"""Turns: which inputs that were sent ahead a worker may still begin.

The kernel sends inputs to a worker ahead of their turn, so that the next one is there when one
ends. Should another container run dry, it wants those back that have not begun; but what lies in
a socket can't be read back, and asking would have to wait for the method that runs. So each
input that is sent ahead (an OFFER) comes with one byte in a pipe beside the socket, and whoever
reads the byte has the input: the worker before it begins, or the kernel to give it to somebody
else. The operating system hands out each byte once.

Bytes are alike, and the worker reads them in the order of its inputs. Those that the kernel read
are therefore the last ones: the worker finds no byte for them, answers SKIPPED, and goes on.

The pipe is a FIFO in the container's run folder. There is none where the container is on another
machine; nothing can then be taken back.
"""

from __future__ import annotations

import os


def path(run: str, slot: int) -> str:
    """Where the FIFO of a data connection lies, below the run folder as this side sees it."""
    return os.path.join(run, f"turns-{slot}")


class Turns:
    """One end of the pipe of one data connection. Raises `OSError` if there is none."""

    def __init__(self, path: str) -> None:
        # For reading and writing, on both sides: opening never waits, and nobody sees an end.
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def give(self, count: int) -> None:
        """``count`` more inputs may be begun. Before they are sent, so that the worker finds it."""
        os.write(self._fd, bytes(count))

    def take(self, count: int) -> int:
        """Have up to ``count`` of the turns that nobody had yet; how many there were."""
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
