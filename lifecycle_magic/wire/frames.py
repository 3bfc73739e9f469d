"""Frames on a data socket: a header of 16 bytes, a pickle, and the buffers that lie outside it.

    magic "LM" | kind u8 | flags u8 | tag u16 | buffers u16 | payload length u64
    | buffer lengths u64 ... | payload | buffers

Where buffers lie in shared memory, the segment's name comes in their stead, before the payload. The
tag of an answer says what it answers, see `tag`: one that is for somebody else is found out.

A `Channel` owns one connected stream socket. A small frame costs one system call to
send and one to receive. Whatever is malformed or too large raises `WireError`, after which the
channel is of no more use: there is no way to find the next frame.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Any

from lifecycle_magic.exception import WireError
from lifecycle_magic.wire.segment import NAME
from lifecycle_magic.wire.shared import IDLE, THRESHOLD, Shared

PROTOCOL = 4
"""Version of everything in this package; both sides must have the same."""

HEADER = struct.Struct("<2sBBHHQ")
MAGIC = b"LM"
SHARED = 1  # the buffers lie in a segment, which is named before the payload
PACKED = 2  # and so does the payload, behind them
MOVED = 4  # the segment is the receiver's own; behind its name stand the places of the buffers

MAX_FRAME = 16 << 30
"""Bytes in a frame at most, buffers included. More is a bug or an attack, not a payload."""

MAX_BUFFERS = 60_000
OF_SWAP = 0xFFFF  # the tag of what answers a SWAP
PACK = 1 << 18
"""Bytes of a payload from which it travels by segment as well: a large string, say."""

INBOX = 1 << 16
SMALL = 1 << 14  # below this, joining the parts is cheaper than handing the kernel a list
IOV_MAX = 1024  # Linux' UIO_MAXIOV: parts that one sendmsg takes


class Kind:
    """What a frame is. The comment says who sends it and what its payload holds.

    Plain integers, because an enum's members take five times as long to look up.
    """

    HELLO = 1  # both: JSON, before anything else
    SETUP = 2  # kernel: messages.Setup
    READY = 3  # worker: enter has run
    CALL = 4  # kernel: (call id, method name, args, kwargs)
    RESULT = 5  # worker: the value
    FAILURE = 6  # worker: messages.Failure
    OUTPUT = 7  # worker: (stream, text) that the running call printed
    CANCELLED = 8  # worker: the call stopped because it was asked to, or (b"going") all had to
    SWAP = 9  # kernel: messages.Swap, the class's new code
    ITEM = 10  # worker: one item that a generator method yielded, or a list of ASGI messages
    END = 11  # worker: the generator or the request is over, by itself or because of STOP
    STOP = 12  # kernel: no more items are wanted; of a request: the client has left
    OFFER = 13  # kernel: a CALL ahead of its turn; see wire.turns
    SKIPPED = 14  # worker: the input was not begun, and will not be
    STREAM = 15  # kernel: a CALL whose items are wanted one by one
    REQUEST = 16  # kernel: (call id, method name, (ASGI scope, first ASGI message), {})
    PUSH = 17  # kernel: the next ASGI message of the client's
    MORE = 18  # worker: the application waits for that


Part = Any  # bytes, bytearray or memoryview of bytes


class Frame:
    """A frame that arrived. ``payload`` is valid until the channel's next `Channel.receive`, and
    keeps the segment that it may lie in: whoever is through with it lets it go.
    """

    __slots__ = ("buffers", "kind", "payload", "tag")

    def __init__(self, kind: int, payload: memoryview, buffers: Sequence[Part], tag: int) -> None:
        self.kind = kind
        self.payload = payload
        self.buffers = buffers
        self.tag = tag


def tag(call: int) -> int:
    """The tag of what answers this call; 0 would say nothing."""
    return call % OF_SWAP


class Channel:
    """One end of a data socket. One thread receives; any thread may send."""

    def __init__(self, sock: socket.socket, max_frame: int = MAX_FRAME, inbox: int = INBOX) -> None:
        self.sock = sock
        self.max_frame = max_frame
        self.shared: Shared | None = None  # where both ends can map the same memory
        self._inbox = memoryview(bytearray(inbox))
        self._start = 0  # of what was read and not yet taken
        self._end = 0
        self._sending = threading.Lock()
        self._wakes = 0.0

    def fileno(self) -> int:
        return self.sock.fileno()

    @property
    def buffered(self) -> bool:
        """Something of a next frame was read already: the socket need not become readable for
        it.
        """
        return self._start != self._end

    def watch(self, loop: Any, callback: Callable[..., object], *args: Any) -> None:
        """Have an event loop call when there is something to read; its ``remove_reader`` ends it.

        The socket stays a blocking one: uvloop makes those that it watches non-blocking.
        """
        loop.add_reader(self.sock.fileno(), callback, *args)
        self.sock.setblocking(True)

    def close(self) -> None:
        self.sock.close()
        if self.shared is not None:
            self.shared.close()

    def send(
        self, kind: int, payload: Part = b"", buffers: Sequence[Any] = (), tag: int = 0
    ) -> None:
        """Send one frame; blocks until the far side's socket buffer has taken it all.

        ``buffers`` are bytes-like or `pickle.PickleBuffer`. Raises `WireError` for a frame that
        is too large, before anything is sent, and `OSError` when the far side is gone.
        """
        if not buffers and (len(payload) < PACK or self.shared is None):
            size = len(payload)
            if size > self.max_frame:
                raise WireError(_too_large(size, self.max_frame))
            head = HEADER.pack(MAGIC, kind, 0, tag, 0, size)
            with self._sending:
                if size <= SMALL:
                    self.sock.sendall(head + payload)
                else:
                    self._send_parts([head, payload])
            return
        with self._sending:  # segments are passed in the order in which frames name them
            self._send_parts(self.encode(kind, payload, buffers, tag))

    def send_on(self, kind: int, payload: Part, buffers: list[Any], tag: int = 0) -> None:
        """`send` the last that there is of ``buffers``; it takes them out of the list.

        If all of them lie in what the last frame brought, and nobody views that any more, the
        memory goes back as it is. Else it is `send`.
        """
        lease = self.shared.leases.newest if buffers and self.shared is not None else None
        places = lease.places(buffers) if lease is not None and len(payload) < PACK else None
        if lease is None or places is None:
            self.send(kind, payload, buffers, tag)
            return
        with lease:  # it does not end in the midst of this
            buffers.clear()
            if lease.move():
                name, starts, sizes = lease.segment.name, *zip(*places, strict=True)
                head = HEADER.pack(MAGIC, kind, MOVED, tag, len(places), len(payload))
                head += _written(sizes) + name + _written(starts)
                with self._sending:
                    self._send_parts([head, payload])
            else:
                self.send(kind, payload, lease.segment.parts(places), tag)

    def encode(
        self, kind: int, payload: Part, buffers: Sequence[Any] = (), tag: int = 0
    ) -> list[Part]:
        """The parts of a frame, for a sender of its own kind. Raises `WireError` if it is too
        large.
        """
        views = [memoryview(b).cast("B") if not hasattr(b, "raw") else b.raw() for b in buffers]
        sizes = [view.nbytes for view in views]
        total = len(payload) + sum(sizes)
        if total > self.max_frame or len(views) > MAX_BUFFERS:
            raise WireError(_too_large(total, self.max_frame, len(views)))
        name, packed = None, len(payload) >= PACK
        if self.shared is not None and self.by_segment(total, len(payload)):
            name = self.shared.place([*views, memoryview(payload)] if packed else views)
            self._wake_every(IDLE)
        flags = 0 if name is None else SHARED | PACKED if packed else SHARED
        head = HEADER.pack(MAGIC, kind, flags, tag, len(views), len(payload))
        head += _written(sizes)
        if name is not None:
            return [head + name] if packed else [head + name, payload]
        return [head, payload, *views]

    def by_segment(self, size: int, payload: int) -> bool:
        """Whether most of a frame lies beside the socket, if there is room: one of ``size`` bytes
        in all, of which so many are its payload.
        """
        return self.shared is not None and (
            payload >= PACK or (size >= THRESHOLD and size > payload)
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

    def whole(self) -> bool | None:
        """Whether `receive` would return at once; for those who may not wait. It invalidates what
        that returned before. None: the frame is too large to be put by until it is whole.
        """
        if self._start:
            rest = self._end - self._start
            self._inbox[:rest] = bytes(self._inbox[self._start : self._end])
            self._start, self._end = 0, rest
        while (size := self._size()) > self._end:
            if size > INBOX:
                return None
            try:
                got = self.sock.recv_into(self._inbox[self._end :], 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except OSError:
                return True  # so says `receive`
            if not got:
                return True
            self._end += got
        return True

    def _size(self) -> int:
        """How many bytes the frame at the inbox's beginning has, at least."""
        if self._end < HEADER.size:
            return HEADER.size
        magic, _, flags, _, count, size = HEADER.unpack_from(self._inbox)
        head = HEADER.size + 8 * count
        if magic != MAGIC:
            return 0  # `receive` has the words for it
        if head > self._end or head > INBOX:
            return int(head)
        if flags:
            places = 8 * count if flags & MOVED else 0
            return int(head + NAME.size + places + (0 if flags & PACKED else size))
        return int(head + size + sum(struct.unpack_from(f"<{count}Q", self._inbox, HEADER.size)))

    def receive(self) -> Frame | None:
        """The next frame, or None when the far side closed between two frames.

        Raises `WireError` for a frame that is malformed, too large, or cut off in the middle.
        """
        if self._start == self._end:
            self._start = 0
            try:
                self._end = self.sock.recv_into(self._inbox)
            except BlockingIOError:
                self._end = self._read(self._inbox)
            if not self._end:
                return None
        while self._end - self._start < HEADER.size:
            self._more()
        magic, kind, flags, tag, count, size = HEADER.unpack_from(self._inbox, self._start)
        known = not flags or (
            self.shared is not None
            and (flags == SHARED | PACKED or (flags in (SHARED, MOVED) and count))
        )
        if magic != MAGIC or not known:
            raise WireError(f"what arrived is no frame of protocol {PROTOCOL}")
        if size > self.max_frame or count > MAX_BUFFERS:
            raise WireError(_too_large(size, self.max_frame, count))
        start = self._start + HEADER.size
        if not (count or flags) and self._end - start >= size:  # all of it is here: no copy
            self._start = start + size
            return Frame(kind, self._inbox[start : self._start], (), tag)
        self._start = start
        lengths = self._numbers(count) if count else ()
        if size + sum(lengths) > self.max_frame:
            raise WireError(_too_large(size + sum(lengths), self.max_frame, count))
        if flags:
            name = self._take(NAME.size)
            if flags & PACKED:
                *parts, whole = self._find(name, (*lengths, size))
                return Frame(kind, whole, parts, tag)
            starts = self._numbers(count) if flags & MOVED else None
            payload = self._take(size)
            return Frame(kind, memoryview(payload), self._find(name, lengths, starts), tag)
        payload = self._take(size)
        return Frame(kind, memoryview(payload), [self._take(length) for length in lengths], tag)

    def _find(
        self, name: bytearray, lengths: Sequence[int], starts: Sequence[int] | None = None
    ) -> Sequence[memoryview]:
        assert self.shared is not None
        try:
            self._wake_every(IDLE)
            if starts is not None:
                return self.shared.find_moved(name, starts, lengths)
            return self.shared.find(name, lengths)
        except (ValueError, OSError) as error:
            raise WireError(f"a segment of shared memory that can't be used: {error}") from None

    def _numbers(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}Q", self._take(8 * count))

    def _read(self, into: memoryview) -> int:
        """Read what comes; whenever nothing came for a while, look what memory can go."""
        while True:
            try:
                return self.sock.recv_into(into)
            except BlockingIOError:
                if self.shared is None or not self.shared.trim():
                    self._wake_every(0)

    def _wake_every(self, seconds: float) -> None:
        """Have a `receive` that waits look up now and then; 0: never, as in the beginning."""
        if seconds != self._wakes:
            self._wakes = seconds
            timeval = struct.pack("@ll", int(seconds), 0)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)

    def _more(self) -> None:
        """Read more behind what is in the inbox, which is less than a header."""
        if self._start:
            rest = self._end - self._start
            self._inbox[:rest] = bytes(self._inbox[self._start : self._end])
            self._start, self._end = 0, rest
        got = self._read(self._inbox[self._end :])
        if not got:
            raise WireError("the connection ended inside a frame")
        self._end += got

    def _take(self, size: int) -> bytearray:
        """The next ``size`` bytes, in memory of their own: first the inbox's, then the socket's."""
        try:
            taken = bytearray(size)
        except MemoryError:
            raise WireError(f"a part of {size} bytes does not fit into memory") from None
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


def _written(numbers: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def _too_large(size: int, limit: int, buffers: int = 0) -> str:
    if buffers > MAX_BUFFERS:
        return f"a frame of {buffers} buffers; at most {MAX_BUFFERS} are allowed"
    return f"a frame of {size} bytes; at most {limit} are allowed"
