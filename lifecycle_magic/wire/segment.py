"""A segment: memory that two processes have mapped, and a byte in it that says whose it is.

The sender sets it to LEASED and does not touch the segment again before it is FREE, which the
receiver sets when nothing there views the segment any more. RETIRED says that the sender has let
go of a free one, and the receiver may do so too.
"""

from __future__ import annotations

import fcntl
import functools
import mmap
import os
import struct
import time
from collections.abc import Sequence
from typing import Any

HEAD = mmap.PAGESIZE
"""Bytes before the first buffer."""

ALIGN = 64  # of each buffer: a cache line, and enough for any SIMD type
FREE, LEASED, RETIRED = 0, 1, 2

NAME = struct.Struct("<QQ")  # a segment's number and size, as a frame names it


_FIXED = 0x10  # MAP_FIXED of mmap(2), which the module does not name


class Segment:
    """Memory that two processes have mapped. ``number`` is unique for its sender.

    Raises `OSError` if it can't be mapped.
    """

    def __init__(self, number: int, fd: int, size: int) -> None:
        self.number = number
        self.size = size
        self.used = time.monotonic()
        self.memory = _mapped(fd, size)
        self.view = memoryview(self.memory)

    def fill(self, views: Sequence[memoryview]) -> None:
        """Copy buffers into it, one behind the other, while other threads go on."""
        import ctypes

        start = HEAD
        for view in views:
            into = self.view[start : start + view.nbytes]
            if view.readonly or not view.nbytes:  # there is no way to its address; others wait
                into[:] = view
            else:
                target, source = (ctypes.c_char.from_buffer(one) for one in (into, view))
                ctypes.memmove(ctypes.addressof(target), ctypes.addressof(source), view.nbytes)
            start += aligned(view.nbytes)

    @property
    def state(self) -> int:
        return self.view[0]

    @state.setter
    def state(self, state: int) -> None:
        self.view[0] = state

    def parts(self, places: Sequence[tuple[int, int]]) -> list[memoryview]:
        """What lies there: of each part where it starts, and its size."""
        return [self.view[start : start + size] for start, size in places]

    @property
    def name(self) -> bytes:
        """What frames call it."""
        return NAME.pack(self.number, self.size)


def _mapped(fd: int, size: int) -> mmap.mmap:
    """`mmap.mmap` of a file, but without the descriptor that it keeps as long as it lives (before
    Python 3.13): a process may have 1,024 of those, and keep many more values.

    So the object has memory of no file, and the file is then mapped over it.
    """
    import ctypes

    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    access, how = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | _FIXED
    if _libc().mmap(address, size, access, how, fd, 0) != address:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return memory


@functools.cache
def _libc() -> Any:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,  # off_t, of which only 0 is needed
    ]
    return libc


def make(size: int, views: Sequence[memoryview]) -> int:
    """A descriptor of new memory, with buffers in it as `Segment.fill` would put them.

    Its pages come with what is written, where a copy would fault for each and have it zeroed
    first: 100 MB took 49 ms here, by a copy 89 ms. Raises `OSError` if there is not enough.
    """
    fd = os.memfd_create("lifecycle_magic", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        # Whoever reads behind the end of a file that was cut is killed by the system.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _seals())
        start = HEAD
        for view in views:
            done = 0
            while done < view.nbytes:
                done += os.pwrite(fd, view[done:], start + done)
            start += aligned(view.nbytes)
    except BaseException:
        os.close(fd)
        raise
    return fd


def check(fd: int, size: int) -> None:
    """Raise ValueError if this is no memory of that size, which nobody can change."""
    if os.fstat(fd).st_size != size:
        raise ValueError("a segment of another size than its frame says")
    if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _seals() != _seals():
        raise ValueError("a segment that could shrink")


def _seals() -> int:
    """Of a file whose size stays as it is; Linux alone has them."""
    return fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def aligned(size: int) -> int:
    """The bytes that a buffer of this size takes in a segment."""
    return -(-size // ALIGN) * ALIGN


def rounded(size: int) -> int:
    """Sizes a quarter of a power of two apart, so that segments fit the next frame as well."""
    step = max(mmap.PAGESIZE, 1 << max(0, size.bit_length() - 3))
    return -(-size // step) * step
