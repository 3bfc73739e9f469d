"""Frames on a data socket; `wire.frame_header` has their layout.

A `Channel` owns one connected stream socket. A small frame costs one system call to send and one to
receive. A malformed or oversized frame raises `WireError`. After that the channel can't be used any
more, because the start of the next frame is unknown.
"""

from __future__ import annotations

import mmap
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Any

from lifecycle_magic.exception import WireError
from lifecycle_magic.wire.frame_header import (
    HEADER,
    MAGIC,
    MAX_BUFFERS,
    MAX_FRAME_BYTES,
    MOVED,
    PACKED,
    PASSED,
    PROTOCOL,
    SHARED,
    pack_numbers,
    pack_places,
)
from lifecycle_magic.wire.frame_parts import memory, too_large
from lifecycle_magic.wire.segment import NAME
from lifecycle_magic.wire.shared import IDLE_SECONDS, SEGMENT_MIN_BYTES, Shared

SWAP_TAG = 0xFFFF  # the tag of the answer to a SWAP
PACK_BYTES = 1 << 18
"""Size in bytes from which a payload, such as a large string, travels in the segment as well."""

INBOX_BYTES = 1 << 16
JOIN_BYTES = 1 << 14  # up to this size, joining the parts is cheaper than passing a list
IOV_MAX = 1024  # UIO_MAXIOV of Linux: the parts that one sendmsg takes


class Kind:
    """The kinds of frames. Each comment names the sender and the content of the payload.

    The kinds are plain integers, because looking up an enum member takes five times as long.
    """

    HELLO = 1  # both: JSON, before anything else
    SETUP = 2  # kernel: messages.Setup
    READY = 3  # worker: enter has run
    CALL = 4  # kernel: (call id, method name, args, kwargs)
    RESULT = 5  # worker: the value
    FAILURE = 6  # worker: messages.Failure
    OUTPUT = 7  # worker: (stream, text) that the running call printed
    CANCELLED = 8  # worker: the call was interrupted; b"stopping": because the container stops
    SWAP = 9  # kernel: messages.Swap, the class's new code
    ITEM = 10  # worker: one item that a generator method yielded, or a list of ASGI messages
    END = 11  # worker: the generator or the request ended, by itself or because of STOP
    STOP = 12  # kernel: no more items are wanted; for a request: the client disconnected
    OFFER = 13  # kernel: a CALL sent ahead of its turn; see wire.ticket_fifo
    SKIPPED = 14  # worker: the input was not begun, and will not be
    STREAM = 15  # kernel: a CALL whose items are wanted one by one
    REQUEST = 16  # kernel: (call id, method name, (ASGI scope, first ASGI message), {})
    PUSH = 17  # kernel: the next ASGI message from the client
    MORE = 18  # worker: the application waits for a PUSH
    ASK = 19  # worker: a call of its own; see wire.nested
    ABANDON = 20  # worker: the caller of an ASK wants no answer any more
    NEXT = 21  # worker: the caller of an ASK wants the next item
    AWAIT = 22  # worker: the caller of a spawned ASK waits for it from now on
    CHANGED = 23  # session: a class that it serves by name was declared again; see wire.nested
    LEAVING = 24  # session: new ASKs go to the session that has replaced this one
    AGAIN = 25  # caller: what the last ASK asks for, with other arguments; see wire.nested
    PROMPT = 26  # worker: (number, prompt, is it a password): the call waits for a line
    ADOPT = 28  # kernel: messages.Adopt, of the kernel that takes the container over
    DEBUG = 27  # kernel: (call id, id of kept frames): run a debugger there


Part = Any  # bytes, bytearray or memoryview of bytes


class Frame:
    """A frame that arrived.

    ``payload`` is valid until the channel's next `Channel.receive`. It keeps the segment in use
    that it may be in, so the receiver must drop it after use.
    """

    __slots__ = ("buffers", "kind", "payload", "tag")

    def __init__(self, kind: int, payload: memoryview, buffers: Sequence[Part], tag: int) -> None:
        self.kind = kind
        self.payload = payload
        self.buffers = buffers
        self.tag = tag


def tag(call: int) -> int:
    """Return the tag of the answer to this call. Tag 0 means that the answer names no call."""
    return call % SWAP_TAG


class Channel:
    """One end of a data socket. One thread receives; any thread may send."""

    def __init__(
        self, sock: socket.socket, max_frame: int = MAX_FRAME_BYTES, inbox: int = INBOX_BYTES
    ) -> None:
        self.sock = sock
        self.max_frame = max_frame
        self.shared: Shared | None = None  # where both ends can map the same memory
        self._inbox = memoryview(bytearray(inbox))
        self._start = 0  # of the data in the inbox that was not taken yet
        self._end = 0
        self._sending = threading.Lock()
        self._wake_seconds = 0.0

    def fileno(self) -> int:
        return self.sock.fileno()

    @property
    def has_buffered(self) -> bool:
        """True if part of the next frame was read already, so that the socket may not become
        readable.
        """
        return self._start != self._end

    def watch(self, loop: Any, callback: Callable[..., object], *args: Any) -> None:
        """Register ``callback`` with an asyncio loop for when there is data to read.

        The loop's ``remove_reader`` ends it. The socket stays a blocking one, although uvloop makes
        sockets that it watches non-blocking.
        """
        loop.add_reader(self.sock.fileno(), callback, *args)
        self.sock.setblocking(True)

    def close(self) -> None:
        self.sock.close()
        if self.shared is not None:
            self.shared.close()

    def close_in_child(self) -> None:
        """Close the channel in a forked child and drop the data that the parent has read."""
        self._start = self._end
        self.close()

    def send(
        self, kind: int, payload: Part = b"", buffers: Sequence[Any] = (), tag: int = 0
    ) -> None:
        """Send one frame. Block until the other side's socket buffer has taken it all.

        ``buffers`` are bytes-like objects or `pickle.PickleBuffer`. Raises `WireError` for a frame
        that is too large, before anything is sent, and `OSError` if the connection is closed.
        """
        if not buffers and (len(payload) < PACK_BYTES or self.shared is None):
            size = len(payload)
            if size > self.max_frame:
                raise WireError(too_large(size, self.max_frame))
            head = HEADER.pack(MAGIC, kind, 0, tag, 0, size)
            with self._sending:
                if size <= JOIN_BYTES:
                    self.sock.sendall(head + payload)
                else:
                    self._send_parts([head, payload])
            return
        with self._sending:  # segments are passed in the order in which frames name them
            self._send_parts(self.encode(kind, payload, buffers, tag))

    def send_on(self, kind: int, payload: Part, buffers: list[Any], tag: int = 0) -> None:
        """Send a frame with the last references to ``buffers``, and empty that list.

        If all buffers are in the segment of the last frame received, and nothing else views that
        segment any more, the segment moves back without a copy. Otherwise the frame is sent as by
        `send`.
        """
        lease = self.shared.leases.newest if buffers and self.shared is not None else None
        places = lease.places(buffers) if lease is not None and len(payload) < PACK_BYTES else None
        if lease is None or places is None:
            self.send(kind, payload, buffers, tag)
            return
        with lease:  # the lease must not end in between
            buffers.clear()
            if lease.move():
                head = pack_places(kind, MOVED, tag, len(payload), lease.segment.name, places)
                with self._sending:
                    self._send_parts([head, payload])
            else:
                self.send(kind, payload, lease.segment.parts(places), tag)

    def send_made(self, make: Callable[[], list[Part] | None]) -> bool:
        """Send the parts of a frame that ``make`` returns. Return False for None.

        Frames that name segments are made and sent in one order.
        """
        with self._sending:
            parts = make()
            if parts is None:
                return False
            self._wake_every(IDLE_SECONDS)
            self._send_parts(parts)
        return True

    def encode(
        self, kind: int, payload: Part, buffers: Sequence[Any] = (), tag: int = 0
    ) -> list[Part]:
        """Return the parts of a frame, for a caller that sends them itself.

        Raises `WireError` if the frame is too large.
        """
        views = [memoryview(b).cast("B") if not hasattr(b, "raw") else b.raw() for b in buffers]
        sizes = [view.nbytes for view in views]
        total = len(payload) + sum(sizes)
        if total > self.max_frame or len(views) > MAX_BUFFERS:
            raise WireError(too_large(total, self.max_frame, len(views)))
        name, packed = None, len(payload) >= PACK_BYTES
        if self.shared is not None and self.uses_segment(total, len(payload)):
            name = self.shared.place([*views, memoryview(payload)] if packed else views)
            self._wake_every(IDLE_SECONDS)
        flags = 0 if name is None else SHARED | PACKED if packed else SHARED
        head = HEADER.pack(MAGIC, kind, flags, tag, len(views), len(payload))
        head += pack_numbers(sizes)
        if name is not None:
            return [head + name] if packed else [head + name, payload]
        return [head, payload, *views]

    def uses_segment(self, size: int, payload: int) -> bool:
        """Return whether most of a frame goes through shared memory, if there is room.

        ``size`` is the size of the frame in bytes, ``payload`` the part of it that is the payload.
        """
        return self.shared is not None and (
            payload >= PACK_BYTES or (size >= SEGMENT_MIN_BYTES and size > payload)
        )

    def _send_parts(self, parts: list[Part]) -> None:
        pending = [memoryview(part).cast("B") for part in parts if len(part)]
        first = 0
        while first < len(pending):
            sent = self.sock.sendmsg(pending[first : first + IOV_MAX])
            while first < len(pending) and sent >= pending[first].nbytes:
                sent -= pending[first].nbytes
                first += 1
            if sent:
                pending[first] = pending[first][sent:]

    def read_available(self) -> bool | None:
        """Read what has arrived, without blocking, and return whether a whole frame is there.

        If so, `receive` returns at once. None means that the frame is too large to be buffered
        until it is whole. This invalidates the frame that `receive` returned before.
        """
        if self._start:
            rest = self._end - self._start
            self._inbox[:rest] = bytes(self._inbox[self._start : self._end])
            self._start, self._end = 0, rest
        while (size := self._frame_size()) > self._end:
            if size > INBOX_BYTES:
                return None
            try:
                got = self.sock.recv_into(self._inbox[self._end :], 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except OSError:
                return True  # `receive` reports the error
            if not got:
                return True
            self._end += got
        return True

    def _frame_size(self) -> int:
        """Return the minimum size in bytes of the frame at the start of the inbox."""
        if self._end < HEADER.size:
            return HEADER.size
        magic, _, flags, _, count, size = HEADER.unpack_from(self._inbox)
        head = HEADER.size + 8 * count
        if magic != MAGIC:
            return 0  # `receive` raises the error
        if head > self._end or head > INBOX_BYTES:
            return int(head)
        if flags:
            places = 8 * count if flags & MOVED else 0
            return int(head + NAME.size + places + (0 if flags & PACKED else size))
        return int(head + size + sum(struct.unpack_from(f"<{count}Q", self._inbox, HEADER.size)))

    def receive(self) -> Frame | None:
        """Return the next frame, or None if the other side closed the connection between two
        frames.

        Raises `WireError` for a frame that is malformed, too large, or cut off in the middle.
        """
        if self._start == self._end:
            # Both: a read that raises must not leave the last frame to be read again.
            self._start = self._end = 0
            try:
                self._end = self.sock.recv_into(self._inbox)
            except BlockingIOError:
                self._end = self._read(self._inbox)
            if not self._end:
                return None
        while self._end - self._start < HEADER.size:
            self._read_header()
        magic, kind, flags, tag, count, size = HEADER.unpack_from(self._inbox, self._start)
        known = not flags or (
            self.shared is not None
            and (flags == SHARED | PACKED or (flags in (SHARED, MOVED, PASSED) and count))
        )
        if magic != MAGIC or not known:
            raise WireError(f"the data that arrived is no frame of protocol {PROTOCOL}")
        if size > self.max_frame or count > MAX_BUFFERS:
            raise WireError(too_large(size, self.max_frame, count))
        start = self._start + HEADER.size
        if not (count or flags) and self._end - start >= size:  # all of it is in the inbox: no copy
            self._start = start + size
            return Frame(kind, self._inbox[start : self._start], (), tag)
        self._start = start
        lengths = self._read_numbers(count) if count else ()
        if size + sum(lengths) > self.max_frame:
            raise WireError(too_large(size + sum(lengths), self.max_frame, count))
        if flags:
            name = self._read_exactly(NAME.size)
            if flags & PACKED:
                *parts, whole = self._find_buffers(name, (*lengths, size))
                return Frame(kind, whole, parts, tag)
            starts = self._read_numbers(count) if flags & MOVED else None
            payload = self._read_exactly(size)
            found = self._find_buffers(name, lengths, starts, is_own=flags == MOVED)
            return Frame(kind, memoryview(payload), found, tag)
        payload = self._read_exactly(size)
        return Frame(
            kind, memoryview(payload), [self._read_exactly(length) for length in lengths], tag
        )

    def _find_buffers(
        self,
        name: Part,
        lengths: Sequence[int],
        starts: Sequence[int] | None = None,
        *,
        is_own: bool = False,
    ) -> Sequence[memoryview]:
        assert self.shared is not None
        try:
            self._wake_every(IDLE_SECONDS)
            if is_own and starts is not None:
                return self.shared.find_moved(name, starts, lengths)
            return self.shared.find(name, lengths, starts)
        except (ValueError, OSError) as error:
            raise WireError(f"a segment of shared memory that can't be used: {error}") from None

    def _read_numbers(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}Q", self._read_exactly(8 * count))

    def _read(self, into: memoryview) -> int:
        """Read available data. While nothing arrives, regularly return unused shared memory."""
        while True:
            try:
                return self.sock.recv_into(into)
            except BlockingIOError:
                if self.shared is None or not self.shared.trim():
                    self._wake_every(0)

    def _wake_every(self, seconds: float) -> None:
        """Wake a blocked `receive` every so many seconds. 0, the initial value, means never."""
        if seconds != self._wake_seconds:
            self._wake_seconds = seconds
            timeval = struct.pack("@ll", int(seconds), 0)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)

    def _read_header(self) -> None:
        """Read more data into the inbox, which holds less than a header."""
        if self._start:
            rest = self._end - self._start
            self._inbox[:rest] = bytes(self._inbox[self._start : self._end])
            self._start, self._end = 0, rest
        got = self._read(self._inbox[self._end :])
        if not got:
            raise WireError("the connection ended inside a frame")
        self._end += got

    def _read_exactly(self, size: int) -> bytearray | mmap.mmap:
        """Return the next ``size`` bytes, in memory of their own."""
        taken = memory(size)
        view = memoryview(taken)
        have = min(size, self._end - self._start)
        view[:have] = self._inbox[self._start : self._start + have]
        self._start += have
        while have < size:
            got = self._read(view[have:])
            if not got:
                raise WireError("the connection ended inside a frame")
            have += got
        return taken
