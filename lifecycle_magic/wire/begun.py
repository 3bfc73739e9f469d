"""Which input a worker began last, told without a message: a page of memory that both sides map.

A connection that ends says nothing of the input that was sent over it. The worker may have died
in the middle of it, or long before it was read; only the latter may be given to another container.
So the worker writes the id of each input here before it begins it, which costs no system call and
outlives it.

The page is a file in the container's run folder. There is none where the container is on another
machine: then every input that was sent counts as begun.
"""

from __future__ import annotations

import mmap
import os

NONE = 1 << 63
"""In place of an id: the worker is there, and began nothing yet."""


def path(run: str) -> str:
    """Where the page lies, below the run folder as this side sees it."""
    return os.path.join(run, "begun")


class Begun:
    """One side's view of the page: a number of 8 bytes for each data connection.

    Raises `OSError` if there is no page. An item that nobody wrote is 0: that worker can't.
    """

    def __init__(self, path: str, slots: int, create: bool = False) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        fd = os.open(path, flags, 0o600)
        try:
            if create:
                os.ftruncate(fd, 8 * slots)
            self._ids = memoryview(mmap.mmap(fd, 8 * slots)).cast("Q")
        except ValueError as error:
            raise OSError(f"{path} is no page of this container's: {error}") from None
        finally:
            os.close(fd)

    def note(self, slot: int, call: int) -> None:
        """The worker begins this input, or `NONE`."""
        self._ids[slot] = call

    def has(self, slot: int, call: int) -> bool:
        """Whether the worker may have begun this input, if it is the last one that could be."""
        return self._ids[slot] in (call, 0)
