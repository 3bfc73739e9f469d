"""Large buffers without the socket: memory that both ends map, passed once and used again.

A *segment* is a memfd of the sender's. Its descriptor goes to the far side once, over a Unix
socket of its own (SCM_RIGHTS); after that a frame only names it. The sender copies buffers in,
the receiver's objects are views of that memory: one copy in all, and that one into warm pages.
(On fresh pages the copy of 100 MB took 150 to 300 ms here, on warm ones 10 to 40 ms.)

A segment's first byte says whose it is. The sender sets it to LEASED and does not touch the
segment again before it is FREE. The receiver sets it to FREE when the last view of the lease
has died, which Python tells: every view keeps the lease's ctypes array alive, and a weak
reference tells of that one's end. So an argument that a method keeps, or a result that a user
keeps, never changes under its owner; it only costs the sender a new segment. A fork pins what
is leased: the child's views can't be followed.

Segments that were not used for a while go back to the system: the owner retires them, and the
far side drops its mapping when it looks next.
"""

from __future__ import annotations

import array
import mmap
import os
import socket
import struct
import time
import weakref
from collections.abc import Sequence
from typing import Any

THRESHOLD = 1 << 17
"""Bytes of buffers in a frame from which they travel by segment; below, the socket is as quick."""

LIMIT = 4 << 30
"""Bytes of segments that one end may have at once; what does not fit goes through the socket."""

IDLE = 10.0
"""Seconds without use after which a segment goes back to the system."""

HEAD = mmap.PAGESIZE
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

    @property
    def state(self) -> int:
        return self.view[0]

    @state.setter
    def state(self, state: int) -> None:
        self.view[0] = state


class Shared:
    """The segments of one channel, both ways. ``sock`` is the Unix socket that descriptors pass
    over.
    """

    def __init__(self, sock: socket.socket, limit: int = LIMIT) -> None:
        self.sock = sock
        self.limit = limit
        self.mine: list[Segment] = []
        self.theirs: dict[int, Segment] = {}
        self._next = 0
        self._bytes = 0
        self._leases: dict[int, weakref.ref[Any]] = {}  # keeps the weak references alive
        self._given = 0
        _all.add(self)

    # --- the sender ------------------------------------------------------------------------

    def place(self, views: Sequence[memoryview]) -> bytes | None:
        """Copy buffers into a free segment; how a frame names it. None if there is no room for
        them.
        """
        total = HEAD + sum(_aligned(view.nbytes) for view in views)
        segment = self._free(total) or self._new(total)
        if segment is None:
            return None
        start = HEAD
        for view in views:
            segment.view[start : start + view.nbytes] = view
            start += _aligned(view.nbytes)
        segment.state = LEASED
        segment.used = time.monotonic()
        return NAME.pack(segment.number, segment.size)

    def _free(self, size: int) -> Segment | None:
        """The smallest free segment that is large enough, and not wastefully so."""
        fitting = [
            s for s in self.mine if size <= s.size <= 4 * size + (1 << 20) and s.state == FREE
        ]
        return min(fitting, key=lambda segment: segment.size, default=None)

    def _new(self, size: int) -> Segment | None:
        size = _rounded(size)
        if self._bytes + size > self.limit:
            self.trim(0.0)
            if self._bytes + size > self.limit:
                return None
        try:
            fd = os.memfd_create("lifecycle_magic", os.MFD_CLOEXEC)
        except OSError:
            return None  # out of descriptors or memory: the socket still works
        try:
            os.ftruncate(fd, size)
            segment = Segment(self._next, fd, size)
            # The far side reads it when it meets the number; a few fit into the socket's buffer.
            self.sock.sendmsg(
                [b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
            )
        except OSError:
            return None
        finally:
            os.close(fd)
        self._next += 1
        self._bytes += size
        self.mine.append(segment)
        return segment

    def trim(self, idle: float = IDLE) -> bool:
        """Give back what was not used for ``idle`` seconds; whether any segment is left, either
        way.
        """
        now = time.monotonic()
        for segment in self.mine.copy():
            if segment.state == FREE and now - segment.used >= idle:
                segment.state = RETIRED
                self.mine.remove(segment)
                self._bytes -= segment.size
        for segment in list(self.theirs.values()):
            if segment.state == RETIRED:
                del self.theirs[segment.number]
        return bool(self.mine or self.theirs)

    # --- the receiver ----------------------------------------------------------------------

    def find(self, name: bytearray, sizes: Sequence[int]) -> list[memoryview]:
        """The buffers that a frame put into the segment it names, as views that hold the lease.

        Raises ValueError if the name, or what was passed for it, can't be right.
        """
        import ctypes

        number, size = NAME.unpack(name)
        segment = self.theirs.get(number)
        if segment is None:
            segment = self._receive(number, size)
        if segment.size != size or HEAD + sum(_aligned(s) for s in sizes) > size:
            raise ValueError("buffers that do not fit into their segment")
        lease = (ctypes.c_char * size).from_buffer(segment.memory)
        self._given += 1
        release = _Release(self, self._given, segment)
        self._leases[self._given] = weakref.ref(lease, release)
        whole = memoryview(lease).cast("B")
        views = []
        start = HEAD
        for length in sizes:
            views.append(whole[start : start + length])
            start += _aligned(length)
        return views

    def _receive(self, number: int, size: int) -> Segment:
        fds = array.array("i")
        _, ancillary, _, _ = self.sock.recvmsg(
            1, socket.CMSG_SPACE(fds.itemsize), socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: fds.itemsize])
        if not fds:
            raise ValueError("no descriptor came for a segment")
        try:
            if os.fstat(fds[0]).st_size != size:
                raise ValueError("a segment of another size than its frame says")
            segment = self.theirs[number] = Segment(number, fds[0], size)
        finally:
            os.close(fds[0])
        return segment

    def pin(self) -> None:
        """A process was forked off: what is leased now stays leased, for its views may be
        anywhere.
        """
        for reference in list(self._leases.values()):
            release = reference.__callback__
            if isinstance(release, _Release):
                release.segment = None

    def close(self) -> None:
        """Let go; memory that is still viewed lives until its last view dies."""
        self.sock.close()
        self.mine.clear()
        self.theirs.clear()


class _Release:
    """What runs when the last view of a lease has died."""

    __slots__ = ("_number", "_pid", "_shared", "segment")

    def __init__(self, shared: Shared, number: int, segment: Segment) -> None:
        self._shared = shared
        self._number = number
        self._pid = os.getpid()
        self.segment: Segment | None = segment

    def __call__(self, reference: weakref.ref[Any]) -> None:
        self._shared._leases.pop(self._number, None)
        if self.segment is not None and os.getpid() == self._pid:
            self.segment.state = FREE


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def _rounded(size: int) -> int:
    """Sizes a quarter of a power of two apart, so that segments fit the next frame as well."""
    step = max(mmap.PAGESIZE, 1 << max(0, size.bit_length() - 3))
    return -(-size // step) * step


_all: weakref.WeakSet[Shared] = weakref.WeakSet()


def _pin_all() -> None:
    for shared in list(_all):
        shared.pin()


os.register_at_fork(before=_pin_all)
