"""A segment: memory that two processes have mapped, and a byte in it that says whose it is.

The sender sets it to LEASED and does not touch the segment again before it is FREE, which the
receiver sets when nothing there views the segment any more. RETIRED says that the sender has let
go of a free one, and the receiver may do so too.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Sequence

HEAD = mmap.PAGESIZE
"""Bytes before the first buffer."""

ALIGN = 64  # of each buffer: a cache line, and enough for any SIMD type
FREE, LEASED, RETIRED = 0, 1, 2

NAME = struct.Struct("<QQ")  # a segment's number and size, as a frame names it


class Segment:
    """Memory that two processes have mapped. ``number`` is unique for its sender."""

    def __init__(self, number: int, fd: int, size: int) -> None:
        self.number = number
        self.size = size
        self.used = time.monotonic()
        self.memory = mmap.mmap(fd, size)
        self.view = memoryview(self.memory)

    def fill(self, views: Sequence[memoryview]) -> None:
        """Copy buffers into it, one behind the other, while other threads go on."""
        import ctypes

        start = HEAD
        for view in views:
            into = self.view[start : start + view.nbytes]
            if view.readonly:  # there is no way to its address; others wait
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


def aligned(size: int) -> int:
    """The bytes that a buffer of this size takes in a segment."""
    return -(-size // ALIGN) * ALIGN


def rounded(size: int) -> int:
    """Sizes a quarter of a power of two apart, so that segments fit the next frame as well."""
    step = max(mmap.PAGESIZE, 1 << max(0, size.bit_length() - 3))
    return -(-size // step) * step


def write(fd: int, views: Sequence[memoryview]) -> None:
    """What `Segment.fill` does, for memory that nobody has touched yet.

    Its pages come with what is written, where a copy would fault for each and have it zeroed
    first: 100 MB took 49 ms here, by a copy 89 ms. Raises `OSError` if there are not enough.
    """
    start = HEAD
    for view in views:
        done = 0
        while done < view.nbytes:
            done += os.pwrite(fd, view[done:], start + done)
        start += aligned(view.nbytes)
