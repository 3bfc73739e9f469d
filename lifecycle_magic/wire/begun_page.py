"""A shared memory page with the id of the input that each data connection of a worker began last.

When a connection ends, the kernel does not know how far the input got that was sent over it. The
worker may have died in the middle of the input, or long before reading it. Only an unread input may
go to another container. So the worker writes the id of each input to this page before it begins the
input. That costs no system call, and the page outlives the worker.

The page is a file in the container's run folder. A container on another machine has no such page.
There, every input that was sent counts as begun.
"""

from __future__ import annotations

import functools
import mmap
import os
import stat
import sys
import threading
from collections.abc import Callable

NOTHING_BEGUN = 1 << 63
"""Value in place of an id: the worker runs, and began no input yet."""


def path(run: str) -> str:
    """Return the path of the page in the run folder ``run``, as this side sees that folder."""
    return os.path.join(run, "begun")


class BegunPage:
    """The worker's view of the page: a number of 8 bytes for each data connection.

    Raises `OSError` if there is no page.
    """

    def __init__(self, path: str, slots: int) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            self._page = mmap.mmap(fd, 8 * slots)  # holds a descriptor of its own
            self._ids = memoryview(self._page).cast("Q")
            for slot in range(slots):
                self._ids[slot] = NOTHING_BEGUN
        except ValueError as error:
            raise OSError(f"{path} is not the page of this container: {error}") from None
        finally:
            os.close(fd)

    def recorder(self, slot: int) -> Callable[[int], None]:
        """Return the function that stores the id of the input that a slot begins now."""
        return functools.partial(self._ids.__setitem__, slot)

    def close(self) -> None:
        """Close the page and its descriptor."""
        self._ids.release()
        self._page.close()


class BegunPageReader:
    """The kernel's view of the page, which the kernel creates.

    It reads the file instead of mapping it: code in the container can truncate the file, and
    reading a mapped page beyond the end of its file kills a process with SIGBUS. An entry of 0 was
    never written, so that worker can't write to the page. With ``is_new`` unset, the page of a
    container that runs already is opened.
    """

    def __init__(self, path: str, slots: int, *, is_new: bool = True) -> None:
        self._lock = threading.Lock()  # between a reader and `freeze`
        self._size = 8 * slots
        self._last = b""
        how = os.O_CREAT | os.O_EXCL if is_new else os.O_NOFOLLOW | os.O_NONBLOCK
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | how, 0o600)
        try:
            if is_new:
                os.ftruncate(self._fd, self._size)
            elif not stat.S_ISREG(os.fstat(self._fd).st_mode):  # code in the container made it
                raise OSError(f"{path} is not a regular file")
        except OSError:
            os.close(self._fd)
            raise

    def may_have_begun(self, slot: int, call: int) -> bool:
        """Return whether the worker may have begun this input. Only valid for the last input
        sent.
        """
        with self._lock:
            page = self._last if self._fd < 0 else os.pread(self._fd, self._size, 0)
        item = page[8 * slot : 8 * slot + 8]
        return len(item) < 8 or int.from_bytes(item, sys.byteorder) in (call, 0)

    def freeze(self) -> None:
        """Read the page for the last time and close the file, because the worker is dead.

        `may_have_begun` still answers afterwards.
        """
        with self._lock:
            if self._fd >= 0:
                self._last = os.pread(self._fd, self._size, 0)
                self._close()

    def close_in_fork(self) -> None:
        """Close the file in a forked child, which never reads it."""
        if self._fd >= 0:
            self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        os.close(fd)
