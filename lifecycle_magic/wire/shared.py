"""Large buffers without the socket: memory that both ends map, passed once and used again.

A *segment* is a memfd of the sender's. Its descriptor goes to the far side once, over a Unix
socket of its own (SCM_RIGHTS); after that a frame only names it. The sender copies buffers in,
the receiver's objects are views of that memory: one copy in all, and that one into warm pages.
(On fresh pages the copy of 100 MB took 150 to 300 ms here, on warm ones 10 to 40 ms.)

How long the receiver's objects view a segment is told in `lifecycle_magic.wire.leases`. What a
method returns may be nothing but views of what it got: an array that it changed in place, say. If
nobody else there sees that memory, the segment itself moves back, and nothing is copied.

Segments that were not used for a while go back to the system: the owner retires them, and the
far side drops its mapping when it looks next.
"""

from __future__ import annotations

import array
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence

from lifecycle_magic.wire.leases import Leases
from lifecycle_magic.wire.segment import (
    FREE,
    HEAD,
    LEASED,
    NAME,
    RETIRED,
    Segment,
    aligned,
    check,
    make,
    rounded,
)

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


class Shared:
    """The segments of one channel, both ways. ``sock`` is the Unix socket that descriptors pass
    over.
    """

    def __init__(self, sock: socket.socket, limit: int = LIMIT) -> None:
        self.sock = sock
        self.limit = limit
        self.mine: list[Segment] = []
        self.theirs: dict[int, Segment] = {}
        self.leases = Leases()
        self._next = 0
        self._out: set[int] = set()  # numbers of mine that may come back
        self._bytes = 0
        self._lock = threading.RLock()
        self.on_use: Callable[[], None] = lambda: None  # there are segments

    # --- the sender ------------------------------------------------------------------------

    def place(self, views: Sequence[memoryview]) -> bytes | None:
        """Copy buffers into a free segment; how a frame names it. None if there is no room for
        them.
        """
        total = HEAD + sum(aligned(view.nbytes) for view in views)
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
        """The smallest free segment that is large enough, and not wastefully so."""
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
            fd = make(size, views)
        except OSError:
            return None  # out of descriptors or memory: the socket still works
        try:
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
            self.leases.unpin()
            before = time.monotonic() - (IDLE if idle is None else idle)
            for segment in self.mine.copy():
                if segment.state == FREE and segment.used <= before:
                    segment.state = RETIRED
                    self.mine.remove(segment)
                    self._out.discard(segment.number)
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
        number, size = NAME.unpack(name)
        with self._lock:
            self.leases.unpin()
            segment = self.theirs.get(number)
            if segment is None:
                segment = self._receive(number, size)
        starts = []
        start = HEAD
        for length in sizes:
            starts.append(start)
            start += aligned(length)
        return self._lend(segment, size, starts, sizes)

    def find_moved(
        self, name: bytearray, starts: Sequence[int], sizes: Sequence[int]
    ) -> list[memoryview]:
        """The same for a segment of this side's that the far side moved back, of which it says
        where the buffers are.
        """
        number, size = NAME.unpack(name)
        with self._lock:
            segment = next((one for one in self.mine if one.number == number), None)
            if segment is None or number not in self._out or segment.state != LEASED:
                raise ValueError("it was not given away")
            self._out.remove(number)  # it comes once
        return self._lend(segment, size, starts, sizes)

    def _lend(
        self, segment: Segment, size: int, starts: Sequence[int], sizes: Sequence[int]
    ) -> list[memoryview]:
        self.on_use()
        places = list(zip(starts, sizes, strict=True))
        if segment.size != size or any(at < HEAD or at + length > size for at, length in places):
            raise ValueError("buffers that do not fit into their segment")
        whole = self.leases.begin(segment)
        return [whole[at : at + length] for at, length in places]

    def _receive(self, number: int, size: int) -> Segment:
        fds = array.array("i")
        # It was sent before the frame that names the segment: who waits here waits for ever.
        _, ancillary, _, _ = self.sock.recvmsg(
            1, socket.CMSG_SPACE(fds.itemsize), socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
        )
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: fds.itemsize])
        if not fds:
            raise ValueError("no descriptor came for a segment")
        try:
            check(fds[0], size)
            segment = self.theirs[number] = Segment(number, fds[0], size)
        finally:
            os.close(fds[0])
        return segment

    def close(self) -> None:
        """Let go; memory that is still viewed lives until its last view dies."""
        self.sock.close()
        self.leases.close()
        self.mine.clear()
        self.theirs.clear()
