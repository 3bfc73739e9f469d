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
is leased, for the child's views can't be followed: until the child and all that it forked are
gone, or have become other programs. That is when the pipe that they inherited ends.

Segments that were not used for a while go back to the system: the owner retires them, and the
far side drops its mapping when it looks next.
"""

from __future__ import annotations

import array
import mmap
import os
import select
import socket
import struct
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

THRESHOLD = 1 << 17
"""Bytes of buffers in a frame from which they travel by segment; below, the socket is as quick."""

LIMIT = 4 << 30
"""Bytes of segments that one end may have at once; what does not fit goes through the socket."""

EACH = 1 << 20
"""Bytes of the limit for each segment: every one takes a mapping, of which a process has 65,530 at
most (vm.max_map_count).
"""

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
        self._pins: list[tuple[int, list[_Release]]] = []  # the pipe of each fork, and its leases
        self._lock = threading.RLock()
        self.on_use: Callable[[], None] = lambda: None  # there are segments
        _all.add(self)

    # --- the sender ------------------------------------------------------------------------

    def place(self, views: Sequence[memoryview]) -> bytes | None:
        """Copy buffers into a free segment; how a frame names it. None if there is no room for
        them.
        """
        total = HEAD + sum(_aligned(view.nbytes) for view in views)
        with self._lock:
            segment = self._free(total) or self._new(total)
            if segment is None:
                return None
            start = HEAD
            for view in views:
                segment.view[start : start + view.nbytes] = view
                start += _aligned(view.nbytes)
            segment.state = LEASED
            segment.used = time.monotonic()
        self.on_use()
        return NAME.pack(segment.number, segment.size)

    def _free(self, size: int) -> Segment | None:
        """The smallest free segment that is large enough, and not wastefully so."""
        fitting = [
            s for s in self.mine if size <= s.size <= 4 * size + (1 << 20) and s.state == FREE
        ]
        return min(fitting, key=lambda segment: segment.size, default=None)

    def _new(self, size: int) -> Segment | None:
        size = _rounded(size)
        if self._too_much(size):
            self.trim(0.0)
            if self._too_much(size):
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

    def _too_much(self, size: int) -> bool:
        return self._bytes + size > self.limit or len(self.mine) * EACH >= self.limit

    def trim(self, idle: float | None = None) -> bool:
        """Give back what was not used for ``idle`` seconds (`IDLE`); whether any segment is left,
        either way. From any thread; it does not wait for one that copies.
        """
        if not self._lock.acquire(blocking=False):
            return True
        try:
            self._unpin()
            before = time.monotonic() - (IDLE if idle is None else idle)
            for segment in self.mine.copy():
                if segment.state == FREE and segment.used <= before:
                    segment.state = RETIRED
                    self.mine.remove(segment)
                    self._bytes -= segment.size
            for segment in list(self.theirs.values()):
                if segment.state == RETIRED:
                    del self.theirs[segment.number]
            return bool(self.mine or self.theirs)
        finally:
            self._lock.release()

    # --- the receiver ----------------------------------------------------------------------

    def find(self, name: bytearray, sizes: Sequence[int]) -> list[memoryview]:
        """The buffers that a frame put into the segment it names, as views that hold the lease.

        Raises ValueError if the name, or what was passed for it, can't be right.
        """
        import ctypes

        number, size = NAME.unpack(name)
        with self._lock:
            self._unpin()
            segment = self.theirs.get(number)
            if segment is None:
                segment = self._receive(number, size)
        self.on_use()
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

    def pin(self) -> int | None:
        """A process is about to be forked off: what is leased now stays leased while it lives, or
        what it forked in its turn. Returns the end of a pipe that it has to inherit; this process
        closes its own when it has forked. None if nothing is leased.
        """
        leases = [ref.__callback__ for ref in list(self._leases.values())]
        pinned = [one for one in leases if isinstance(one, _Release) and one.here()]
        if not pinned:
            return None
        try:
            ours, theirs = os.pipe()
        except OSError:
            theirs = None  # out of descriptors: for ever, then
        else:
            self._pins.append((ours, pinned))
        for release in pinned:
            release.pins += 1
        return theirs

    def _unpin(self) -> None:
        """Note which forks are gone."""
        for pin in self._pins.copy():
            pipe, pinned = pin
            ended = select.poll()
            ended.register(pipe, select.POLLHUP)
            if ended.poll(0):
                self._pins.remove(pin)
                os.close(pipe)
                for release in pinned:
                    release.unpin()

    def close(self) -> None:
        """Let go; memory that is still viewed lives until its last view dies."""
        self.sock.close()
        for pipe, _ in self._pins:
            os.close(pipe)
        self._pins.clear()
        self.mine.clear()
        self.theirs.clear()


class _Release:
    """What runs when the last view of a lease has died."""

    __slots__ = ("_dead", "_number", "_pid", "_segment", "_shared", "pins")

    def __init__(self, shared: Shared, number: int, segment: Segment) -> None:
        self._shared = shared
        self._number = number
        self._pid = os.getpid()
        self._segment = segment
        self._dead = False
        self.pins = 0  # processes that may have views of their own

    def __call__(self, reference: weakref.ref[Any]) -> None:
        self._shared._leases.pop(self._number, None)
        self._dead = True
        self._free()

    def here(self) -> bool:
        """Whether it is this process that ends the lease, and none that it was forked off."""
        return os.getpid() == self._pid

    def unpin(self) -> None:
        self.pins -= 1
        self._free()

    def _free(self) -> None:
        if self._dead and not self.pins and self.here():
            self._segment.state = FREE


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def _rounded(size: int) -> int:
    """Sizes a quarter of a power of two apart, so that segments fit the next frame as well."""
    step = max(mmap.PAGESIZE, 1 << max(0, size.bit_length() - 3))
    return -(-size // step) * step


_all: weakref.WeakSet[Shared] = weakref.WeakSet()


_inherited: list[int] = []  # ends of pipes, while this process forks


def _pin_all() -> None:
    for shared in list(_all):
        pipe = shared.pin()
        if pipe is not None:
            _inherited.append(pipe)


def _forked() -> None:
    for pipe in _inherited:
        os.close(pipe)
    _inherited.clear()


def _in_child() -> None:
    """The pipes stay open until this process ends or becomes another program."""
    _inherited.clear()
    for shared in list(_all):
        for pipe, _ in shared._pins:
            os.close(pipe)
        shared._pins.clear()


os.register_at_fork(before=_pin_all, after_in_parent=_forked, after_in_child=_in_child)
