"""A segment: memory that two processes map, with a byte that says which of them may use it.

The sender sets the byte to LEASED and does not touch the segment again until it is FREE. The
receiver sets FREE when no object there views the segment any more. RETIRED means that the sender
has dropped a free segment, and the receiver may do so too.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import mmap
import os
import struct
import sys
import time
from collections.abc import Sequence
from typing import Any

HEADER_BYTES = mmap.PAGESIZE
"""Bytes before the first buffer."""

ALIGN_BYTES = 64  # alignment of each buffer: a cache line, and enough for any SIMD type
FREE, LEASED, RETIRED = 0, 1, 2

UNLOCKED_BYTES = 1 << 17
"""Size from which a buffer is copied without the interpreter's lock. Below, the call that does so
takes longer than the copy: 5,000 buffers of 4 KB took 14 ms instead of 4.
"""

WRITTEN_AT_ONCE = 1024
"""Maximum parts of one write (IOV_MAX of Linux)."""

NAME = struct.Struct("<QQ")  # a segment's number and size: its name in a frame


_FIXED = 0x10  # MAP_FIXED of mmap(2), which Python's module does not define


class Segment:
    """Memory that two processes map. ``number`` is unique for its sender.

    ``descriptor`` is kept for as long as the segment may be passed on to a third process, otherwise
    it is -1. Raises `OSError` if the memory can't be mapped.
    """

    def __init__(self, number: int, fd: int, size: int) -> None:
        self.number = number
        self.size = size
        self.descriptor = -1
        self.is_orphan = False  # the connection over which it came is closed
        self.used = time.monotonic()
        self.memory = _map_shared(fd, size)
        self.view = memoryview(self.memory)

    def fill(self, views: Sequence[memoryview]) -> None:
        """Copy buffers of bytes into the segment one after the other.

        Other threads run while a large one is copied.
        """
        import ctypes

        memory, start = self.view, HEADER_BYTES
        for view in views:
            size = view.nbytes
            if size < UNLOCKED_BYTES:
                memory[start : start + size] = view
            else:
                into = memory[start : start + size]
                ctypes.memmove(address_of(into), address_of(view), size)
            start += -(-size // ALIGN_BYTES) * ALIGN_BYTES

    @property
    def state(self) -> int:
        return self.view[0]

    @state.setter
    def state(self, state: int) -> None:
        self.view[0] = state

    def keep_descriptor(self, fd: int) -> None:
        """Keep a duplicate of its descriptor, unless this process can have no more."""
        with contextlib.suppress(OSError):
            self.descriptor = os.dup(fd)

    def drop_descriptor(self) -> None:
        """Close the descriptor that was kept, if there is one."""
        fd, self.descriptor = self.descriptor, -1
        if fd >= 0:
            os.close(fd)

    def parts(self, places: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Return views of the parts of the segment, each given by its start and size."""
        return [self.view[start : start + size] for start, size in places]

    @property
    def name(self) -> bytes:
        """The name of the segment in frames."""
        return NAME.pack(self.number, self.size)


def _map_shared(fd: int, size: int) -> mmap.mmap:
    """Map a file as `mmap.mmap` does, but without the descriptor that the object keeps.

    Before Python 3.13, every mapping keeps a descriptor for as long as it lives. A process may have
    1,024 of them, and may keep many more values. So the object is created with memory of no file,
    and the file is then mapped over it.
    """
    import ctypes

    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    access, how = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | _FIXED
    if _libc().mmap(address, size, access, how, fd, 0) != address:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return memory


def address_of(view: memoryview) -> int:
    """Return the address of a view's memory, also of memory that can't be written."""
    import ctypes

    if view.readonly:
        return _address_of_readonly(view)
    return ctypes.addressof(ctypes.c_char.from_buffer(view)) if view.nbytes else 0


def _address_of_readonly(view: memoryview) -> int:
    """Return the address by Python's C function, because ctypes takes writable memory only."""
    import ctypes

    found = (ctypes.c_ssize_t * 16)()  # a Py_buffer has 80 bytes; the address comes first
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), found, 0)  # PyBUF_SIMPLE
    address: int = found[0]
    ctypes.pythonapi.PyBuffer_Release(found)
    return address


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
        ctypes.c_long,  # off_t, always 0 here
    ]
    return libc


def create(size: int, views: Sequence[memoryview]) -> int:
    """Return a descriptor of new memory with buffers in it, placed as by `Segment.fill`.

    Writing allocates the pages. A copy would fault for each page and zero it first: 100 MB took 49
    ms here, with a copy 89 ms. Raises `OSError` if there is not enough memory.
    """
    if sys.platform != "linux":
        raise NotImplementedError("only Linux can do this")
    fd = os.memfd_create("lifecycle_magic", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        # The system kills a process that reads beyond the end of a truncated file.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _seals())
        _write(fd, HEADER_BYTES, views)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _write(fd: int, start: int, views: Sequence[memoryview]) -> None:
    """Write buffers to a file from ``start`` on, many small ones with one system call."""
    parts: list[Any] = []
    size = 0
    for view in views:
        parts.append(view)
        gap = -view.nbytes % ALIGN_BYTES
        if gap:
            parts.append(bytes(gap))
        size += view.nbytes + gap
        if len(parts) >= WRITTEN_AT_ONCE - 1 or size >= UNLOCKED_BYTES:
            _write_parts(fd, start, parts)
            start += size
            parts, size = [], 0
    if parts:
        _write_parts(fd, start, parts)


def _write_parts(fd: int, start: int, parts: list[Any]) -> None:
    while parts:
        done = os.pwritev(fd, parts, start)
        start += done
        while parts and done >= len(parts[0]):
            done -= len(parts.pop(0))
        if done:
            parts[0] = parts[0][done:]


def check(fd: int, size: int) -> None:
    """Raise ValueError unless ``fd`` is memory of this size that no process can resize."""
    if sys.platform != "linux":
        raise NotImplementedError("only Linux can do this")
    if os.fstat(fd).st_size != size:
        raise ValueError("the segment has another size than its frame says")
    if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _seals() != _seals():
        raise ValueError("the segment could shrink")


def _seals() -> int:
    """Return the seals of a file that can't be resized."""
    if sys.platform != "linux":
        raise NotImplementedError("only Linux can do this")
    return fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def aligned(size: int) -> int:
    """Return the bytes that a buffer of this size takes in a segment."""
    return -(-size // ALIGN_BYTES) * ALIGN_BYTES


def rounded(size: int) -> int:
    """Round up to sizes a quarter of a power of two apart, so that segments fit later frames
    too.
    """
    step = max(mmap.PAGESIZE, 1 << max(0, size.bit_length() - 3))
    return -(-size // step) * step
