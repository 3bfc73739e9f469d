"""Large buffers in shared memory that both ends map, passed once and used again.

A *segment* is a memfd of the sender. Its descriptor goes to the other side once, over a separate
Unix socket (SCM_RIGHTS). After that a frame only names the segment. The sender copies buffers into
it, and the receiver's objects are views of that memory: one copy in total, into warm pages. (The
copy of 100 MB took 150 to 300 ms here on fresh pages, 10 to 40 ms on warm ones.)

`lifecycle_magic.wire.leases` tracks how long the receiver's objects view a segment. A method may
return nothing but views of its argument, for example an array that it changed in place. If no other
object there sees that memory, the segment itself moves back and nothing is copied.

Segments without recent use go back to the system: the owner retires them, and the other side drops
its mapping the next time it checks.
"""

from __future__ import annotations

import array
import itertools
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence

from lifecycle_magic.wire import descriptors
from lifecycle_magic.wire.leases import Leases
from lifecycle_magic.wire.segment import (
    FREE,
    HEADER_BYTES,
    LEASED,
    NAME,
    RETIRED,
    Segment,
    aligned,
    check,
    create,
    rounded,
)

SEGMENT_MIN_BYTES = 1 << 17
"""Bytes of buffers in a frame from which they travel by segment. Below, the socket is as fast."""

SEGMENT_LIMIT_BYTES = 4 << 30
"""Maximum bytes of segments that one end may have. Further buffers go through the socket."""

BYTES_PER_SEGMENT = 1 << 20
"""Bytes of the limit that each segment counts for at least, since each takes a mapping, and a
process may have 65,530 mappings (vm.max_map_count).
"""

MAX_DESCRIPTORS = 32
"""Segments of the other side up to which their descriptors are kept for passing them on."""

IDLE_SECONDS = 10.0
"""Seconds without use after which a segment goes back to the system."""


class Shared:
    """The segments of one channel, in both directions.

    ``sock`` is the Unix socket that passes descriptors.
    """

    def __init__(self, sock: socket.socket, limit: int = SEGMENT_LIMIT_BYTES) -> None:
        self.sock = sock
        self.limit = limit
        self.mine: list[Segment] = []
        self.theirs: dict[int, Segment] = {}
        self.leases = Leases()
        self.passed: dict[int, Segment] = {}  # those of other channels, by their numbers here
        self.keeps_descriptors = False
        self._next = 0
        self._out: set[int] = set()  # numbers of own segments that may move back
        self._bytes = 0
        self._lock = threading.RLock()
        self.on_use: Callable[[], None] = lambda: None  # called when a segment is used

    # --- the sender ------------------------------------------------------------------------

    def place(self, views: Sequence[memoryview]) -> bytes | None:
        """Copy buffers into a free segment and return its name; None if there is no room."""
        total = HEADER_BYTES + sum(aligned(view.nbytes) for view in views)
        with self._lock:
            segment = self._free(total)
            if segment is not None:
                segment.fill(views)
            else:
                segment = self._new(total, views)
                if segment is None:
                    return None
            segment.state = LEASED
            segment.used = time.monotonic()
            self._out.add(segment.number)
        self.on_use()
        return segment.name

    def _free(self, size: int) -> Segment | None:
        """Return the smallest free segment that is large enough, but not wastefully large."""
        fitting = [
            s for s in self.mine if size <= s.size <= 4 * size + (1 << 20) and s.state == FREE
        ]
        return min(fitting, key=lambda segment: segment.size, default=None)

    def _new(self, size: int, views: Sequence[memoryview]) -> Segment | None:
        size = rounded(size)
        if self._too_much(size):
            self.trim(0.0)
            if self._too_much(size):
                return None
        try:
            fd = create(size, views)
        except OSError:
            return None  # out of descriptors or memory: the socket still works
        try:
            segment = Segment(self._next, fd, size)
            self._send_descriptor(fd)
        except OSError:
            return None
        finally:
            os.close(fd)
        self._next += 1
        self._bytes += size
        self.mine.append(segment)
        return segment

    def _send_descriptor(self, fd: int) -> None:
        # The other side reads it when it needs the number. The socket's buffer holds a few.
        self.sock.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])

    def pass_on(self, segment: Segment) -> bytes | None:
        """Return the name here of a segment of another channel; None if it can't be passed on.

        The segment is with the other side then. Call with the channel's lock for sending.
        """
        with self._lock:
            number = next((one for one, known in self.passed.items() if known is segment), None)
            if number is None:
                if segment.descriptor < 0:
                    return None
                try:
                    self._send_descriptor(segment.descriptor)
                except OSError:
                    return None
                number = self._next
                self._next += 1
                self.passed[number] = segment
            self._out.add(number)
        self.on_use()
        return NAME.pack(number, segment.size)

    def release_passed(self) -> None:
        """Free the segments of other channels, because no process is on the other side any more."""
        with self._lock:
            for number, segment in self.passed.items():
                if number in self._out and segment.state == LEASED:
                    segment.state = FREE
            self.passed.clear()

    def _too_much(self, size: int) -> bool:
        return self._bytes + size > self.limit or len(self.mine) * BYTES_PER_SEGMENT >= self.limit

    def trim(self, idle: float | None = None) -> bool:
        """Return segments that were not used for ``idle`` seconds to the system.

        Return whether any segment is left in either direction.

        ``idle`` defaults to `IDLE_SECONDS`. Any thread may call this. It does not wait for a thread
        that copies.
        """
        if not self._lock.acquire(blocking=False):
            return True
        try:
            self.leases.unpin()
            before = time.monotonic() - (IDLE_SECONDS if idle is None else idle)
            for segment in self.mine.copy():
                if segment.state == FREE and segment.used <= before:
                    segment.state = RETIRED
                    self.mine.remove(segment)
                    self._out.discard(segment.number)
                    self._bytes -= segment.size
            for segment in list(self.theirs.values()):
                if segment.state == RETIRED:
                    del self.theirs[segment.number]
                    segment.drop_descriptor()
            for number, segment in list(self.passed.items()):
                if segment.is_orphan and segment.state == FREE:
                    segment.state = RETIRED  # for the other side; the sender exists no more
                if segment.state == RETIRED:
                    del self.passed[number]
            return bool(self.mine or self.theirs or self.passed)
        finally:
            self._lock.release()

    # --- the receiver ----------------------------------------------------------------------

    def find(
        self, name: bytes, sizes: Sequence[int], starts: Sequence[int] | None = None
    ) -> list[memoryview]:
        """Return the buffers of a frame in the segment that it names, as views that hold a lease.

        Without ``starts``, they follow each other. Raises ValueError if the name, or the descriptor
        that was passed for it, can't be right.
        """
        number, size = NAME.unpack(name)
        with self._lock:
            self.leases.unpin()
            segment = self.theirs.get(number)
            if segment is None:
                segment = self._receive(number, size)
        if starts is None:
            starts = list(itertools.accumulate(map(aligned, sizes), initial=HEADER_BYTES))[:-1]
        return self._lend(segment, size, starts, sizes)

    def find_moved(
        self, name: bytes, starts: Sequence[int], sizes: Sequence[int]
    ) -> list[memoryview]:
        """Return the buffers in an own segment that the other side moved back, at these places.

        Raises ValueError as `find` does.
        """
        number, size = NAME.unpack(name)
        with self._lock:
            segment = next((one for one in self.mine if one.number == number), None)
            segment = segment or self.passed.get(number)
            if segment is None or number not in self._out or segment.state != LEASED:
                raise ValueError("the segment is not with the other side")
            self._out.remove(number)  # it moves back once
        return self._lend(segment, size, starts, sizes)

    def _lend(
        self, segment: Segment, size: int, starts: Sequence[int], sizes: Sequence[int]
    ) -> list[memoryview]:
        self.on_use()
        places = list(zip(starts, sizes, strict=True))
        if segment.size != size or any(
            at < HEADER_BYTES or at + length > size for at, length in places
        ):
            raise ValueError("the buffers do not fit into their segment")
        whole = self.leases.begin(segment)
        return [whole[at : at + length] for at, length in places]

    def _receive(self, number: int, size: int) -> Segment:
        with descriptors.room():  # where none is left, the system drops what comes
            fds = self._receive_descriptors()
            try:
                if len(fds) != 1:  # alignment leaves room for a second one
                    raise ValueError(f"{len(fds) or 'no'} descriptors arrived for a segment")
                check(fds[0], size)
                segment = self.theirs[number] = Segment(number, fds[0], size)
                if self.keeps_descriptors and len(self.theirs) <= MAX_DESCRIPTORS:
                    segment.keep_descriptor(fds[0])
            finally:
                for fd in fds:
                    os.close(fd)
        return segment

    def _receive_descriptors(self) -> array.array[int]:
        if sys.platform != "linux":
            raise NotImplementedError("only Linux can do this")
        fds = array.array("i")
        # The descriptor was sent before the frame that names the segment. Waiting would never end.
        _, ancillary, flags, _ = self.sock.recvmsg(
            1, socket.CMSG_SPACE(fds.itemsize), socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
        )
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        if not fds and flags & socket.MSG_CTRUNC:
            raise ValueError(descriptors.exhausted())
        return fds

    def close(self) -> None:
        """Drop all segments. Memory that is still viewed lives until its last view dies."""
        self.sock.close()
        self.leases.close()
        for segment in self.theirs.values():
            segment.drop_descriptor()
            segment.is_orphan = True
        self.mine.clear()
        self.theirs.clear()


def can_share() -> bool:
    """Return whether this process can share memory over a Unix socket."""
    return sys.platform == "linux" and hasattr(os, "memfd_create")


def offer(sock: socket.socket, limit: int = SEGMENT_LIMIT_BYTES) -> Shared | None:
    """Offer to share memory over the Unix socket ``sock``, whose other end calls `accept_offer`.

    Return this side of it; None if no descriptor is left, and the other end then gets None too.
    """
    if sys.platform != "linux":
        raise NotImplementedError("only Linux can do this")
    try:
        mine, theirs = socket.socketpair()
    except OSError:
        sock.sendall(b"\0")
        return None
    with theirs:
        socket.send_fds(sock, [b"\0"], [theirs.fileno()])
    return Shared(mine, limit)


def accept_offer(sock: socket.socket, limit: int = SEGMENT_LIMIT_BYTES) -> Shared | None:
    """Read what `offer` sends; None if it offers nothing, or this process has no descriptor left.

    Nothing may have been read beyond the frame before. Raises `OSError` if the connection ends.
    """
    if sys.platform != "linux":
        raise NotImplementedError("only Linux can do this")
    with descriptors.room():
        data, fds, _, _ = socket.recv_fds(sock, 1, 1, socket.MSG_CMSG_CLOEXEC)
    sides = []
    for fd in fds:
        try:
            sides.append(socket.socket(fileno=fd))
        except OSError:  # no socket
            os.close(fd)
    if len(sides) == 1 and sides[0].family == socket.AF_UNIX:
        return Shared(sides[0], limit)
    for side in sides:
        side.close()
    if not data:
        raise ConnectionResetError("the connection ended inside the handshake")
    return None
