"""Many connections between a kernel and one container over a single stream of bytes.

Where engine and kernel share no files, a container has nothing but its standard input and output,
which the engine's API carries. Both ends have a `Multiplexer` there: the container's end accepts
the connections of supervisor and worker, the kernel's end (a relay process) makes the same
connections to the kernel.

Each channel has a window: a receiver holds at most that many bytes that its socket does not take,
so that a slow reader stops its own writer alone. The kernel's end sends a PING every
`PING_SECONDS`; an end that receives nothing for `LEASE_SECONDS` takes the other one for lost. TCP's
own keepalive can't do that: unacknowledged data switches it off, and a cut was then noticed after
950 s.

Everything runs on one thread, in a loop around `Multiplexer.tick` and a selector whose keys have
a callable as their data.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Collection

from lifecycle_magic.exception import WireError
from lifecycle_magic.wire.mux_channel import WINDOW_BYTES, MuxChannel, NonblockingStream, select
from lifecycle_magic.wire.mux_frames import MAX_PAYLOAD_BYTES, FrameKind, FrameReader, MuxFrame
from lifecycle_magic.wire.mux_queue import FrameQueue

__all__ = ["LEASE_SECONDS", "MAX_CHANNELS", "PING_SECONDS", "STREAM_ENDED", "Multiplexer"]

PING_SECONDS = 5.0
LEASE_SECONDS = 40.0
"""Seconds without a byte from the other end after which it counts as lost. A cut of 20 s loses
nothing: TCP needs up to 8 s more to notice that the network is back."""

STREAM_ENDED = "the stream has ended"
"""The reason of an end that the other process or the network brought about."""

MAX_CHANNELS = 2048
"""Channels that are open at a time. More are refused."""

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Multiplexer:
    """One end of a stream. All methods belong to the thread of the loop.

    ``connect`` returns a socket for an OPEN of the other end, or None to refuse it; an end without
    it takes an OPEN for an error. ``on_dial`` gets the name in a DIAL, ``on_message`` whole
    messages of at most ``most`` bytes. ``on_end`` is called once, with the reason: the stream's
    end, an error, or silence. With ``pings`` this end is the one that sends them.
    """

    def __init__(
        self,
        stream: NonblockingStream,
        selector: selectors.BaseSelector,
        *,
        on_end: Callable[[str], None],
        on_message: Callable[[bytes], None],
        most: int,
        connect: Callable[[str], socket.socket | None] | None = None,
        on_gone: Callable[[], None] = lambda: None,
        on_bye: Callable[[], None] = lambda: None,
        on_kill: Callable[[], None] = lambda: None,
        on_dial: Callable[[str], None] = lambda _: None,
        pings: bool = False,
        first: bytes = b"",
    ) -> None:
        self.ended = False
        self.has_spoken = False  # the other end has sent something
        self._stream = stream
        self._selector = selector
        self._on_end = on_end
        self._on_message = on_message
        self._most = most
        self._connect = connect
        self._on_gone = on_gone
        self._on_bye = on_bye
        self._on_kill = on_kill
        self._on_dial = on_dial
        self._pings = pings
        self._reader = FrameReader()
        self._channels: dict[int, MuxChannel] = {}
        self._last_number = 0
        self._message = bytearray()
        self._queue = FrameQueue(first)
        self._paused: set[int] = set()  # channels that are not read while the queue is long
        self._watched = 0
        self._heard = self._pinged = time.monotonic()
        self._watch_stream(_READ | _WRITE)

    # --- what the owner calls --------------------------------------------------------------

    def open(self, target: str, sock: socket.socket) -> None:
        """Carry the connection ``sock`` to what the other end calls ``target``."""
        if len(self._channels) >= MAX_CHANNELS or self.ended:
            sock.close()
            return
        self._last_number += 1
        self._send(FrameKind.OPEN, self._last_number, target.encode())
        self._add(self._last_number, sock)
        self._flush()

    def send_message(self, data: bytes) -> None:
        """Send a message, which arrives before everything that is sent later."""
        for at in range(0, len(data), MAX_PAYLOAD_BYTES):
            self._send(FrameKind.PART, 0, data[at : at + MAX_PAYLOAD_BYTES])
        self._send(FrameKind.MESSAGE)
        self._flush()

    def send(self, kind: FrameKind) -> None:
        """Send GONE, BYE or KILL."""
        self._send(kind)
        self._flush()

    def dial(self, target: str) -> None:
        """Have the other end open a channel to a socket of its own."""
        self._send(FrameKind.DIAL, 0, target.encode())
        self._flush()

    def close_channels(self, leave: Collection[socket.socket] = ()) -> None:
        """End all channels at this end but those of ``leave``, which the other end learns."""
        for channel in list(self._channels.values()):
            if not any(channel.sock is one for one in leave):
                self._send(FrameKind.RESET, channel.number)
                self._drop(channel)
        self._flush()

    def hear(self) -> None:
        """Begin the lease anew: the other end was heard of by other means."""
        self._heard = max(self._heard, time.monotonic())

    def end(self, why: str) -> None:
        """Close everything. ``on_end`` gets ``why`` unless it was called before."""
        if self.ended:
            return
        self.ended = True
        try:
            self._on_end(why)  # first: the kernel asks for the reason when its sockets end
        finally:
            for channel in list(self._channels.values()):
                self._drop(channel)
            self._watch_stream(0)
            self._stream.close()

    @property
    def is_idle(self) -> bool:
        """Return whether no channel is open and nothing waits to be sent."""
        return not self._channels and not self._queue

    def tick(self, now: float) -> float:
        """Send a PING or notice the end of the lease. Return the seconds until the next call."""
        if self.ended:
            return LEASE_SECONDS
        silent = now - self._heard
        if silent >= LEASE_SECONDS:
            self.end(f"nothing was received for {LEASE_SECONDS:g} s")
            return LEASE_SECONDS
        due = LEASE_SECONDS - silent
        if self._pings:
            if now - self._pinged >= PING_SECONDS:
                self._pinged = now
                self._send(FrameKind.PING)
                self._flush()
            due = min(due, self._pinged + PING_SECONDS - now)
        return max(0.0, due)

    # --- the stream ------------------------------------------------------------------------

    def _on_stream(self, events: int) -> None:
        try:
            if events & _WRITE:
                self._flush()
            while not self.ended and events & _READ and (data := self._stream.read()) is not None:
                if not data:
                    self.end(STREAM_ENDED)
                    return
                self.has_spoken = True
                self._heard = time.monotonic()
                for frame in self._reader.feed(data):
                    self._on_frame(frame)
        except WireError as error:
            self.end(f"it sent {error}")
        except OSError as error:
            self.end(f"the stream broke: {error.strerror or error}")

    def _send(self, kind: FrameKind, channel: int = 0, payload: bytes = b"") -> None:
        if not self.ended:
            self._queue.add(kind, channel, payload)

    def _flush(self) -> None:
        """Send what the stream takes now."""
        if self.ended:
            return
        try:
            self._queue.write_to(self._stream)
        except OSError as error:
            self.end(f"the stream broke: {error.strerror or error}")
            return
        self._watch_stream(_READ | (_WRITE if self._queue else 0))
        if self._paused and self._queue.has_room:
            paused, self._paused = self._paused, set()
            for number in paused:
                if (channel := self._channels.get(number)) is not None:
                    self._watch(channel)

    def _watch_stream(self, events: int) -> None:
        if events == self._watched:
            return
        self._watched = events
        stream = self._stream
        if stream.reader == stream.writer:
            select(self._selector, stream.reader, events, self._on_stream)
        else:
            select(self._selector, stream.reader, events & _READ, self._on_stream)
            select(self._selector, stream.writer, events & _WRITE, self._on_stream)

    # --- frames of the other end -----------------------------------------------------------

    def _on_frame(self, frame: MuxFrame) -> None:
        kind, number, payload = frame
        if self.ended:
            return
        if kind == FrameKind.DATA:
            self._on_data(number, payload)
        elif kind == FrameKind.CREDIT:
            self._on_credit(number, int.from_bytes(payload, "big"))
        elif kind == FrameKind.EOF:
            if (channel := self._find(number)) is not None:
                channel.peer_ended = True
                self._write_pending(channel)
        elif kind == FrameKind.RESET:
            if (channel := self._find(number)) is not None:
                self._drop(channel)
        elif kind == FrameKind.OPEN:
            self._on_open(number, payload)
        elif kind == FrameKind.PING:
            self._send(FrameKind.PONG)
            self._flush()
        elif kind in (FrameKind.PART, FrameKind.MESSAGE):
            self._on_part(payload, last=kind == FrameKind.MESSAGE)
        elif kind == FrameKind.GONE:
            self._on_gone()
        elif kind == FrameKind.BYE:
            self._on_bye()
        elif kind == FrameKind.KILL:
            self._on_kill()
        elif kind == FrameKind.DIAL:
            self._on_dial(payload.decode("ascii", "replace"))

    def _find(self, number: int) -> MuxChannel | None:
        """Return a channel; None for one that this end has closed. Raises for a number that no
        channel ever had.
        """
        if not 0 < number <= self._last_number:
            raise WireError(f"a multiplexed frame for channel {number}, which was never opened")
        return self._channels.get(number)

    def _on_open(self, number: int, target: bytes) -> None:
        if self._connect is None or number != self._last_number + 1:
            raise WireError(f"a multiplexed OPEN of channel {number}")
        self._last_number = number
        full = len(self._channels) >= MAX_CHANNELS
        sock = None if full else self._connect(target.decode("ascii", "replace"))
        if sock is None:
            self._send(FrameKind.RESET, number)
            self._flush()
        else:
            self._add(number, sock)

    def _on_data(self, number: int, payload: bytes) -> None:
        channel = self._find(number)
        if channel is None:
            return
        channel.held += len(payload)
        if channel.held > WINDOW_BYTES or channel.peer_ended:
            raise WireError(f"more bytes on channel {number} than it may send")
        channel.pending.append(memoryview(payload))
        self._write_pending(channel)

    def _on_credit(self, number: int, size: int) -> None:
        channel = self._find(number)
        if channel is None:
            return
        if channel.credit + size > WINDOW_BYTES:
            raise WireError(f"more credit for channel {number} than there is")
        channel.credit += size
        self._watch(channel)

    def _on_part(self, payload: bytes, *, last: bool) -> None:
        self._message += payload
        if len(self._message) > self._most:
            raise WireError(f"a message of more than {self._most} bytes")
        if last:
            data, self._message = bytes(self._message), bytearray()
            self._on_message(data)

    # --- sockets ---------------------------------------------------------------------------

    def _add(self, number: int, sock: socket.socket) -> None:
        sock.setblocking(False)
        channel = self._channels[number] = MuxChannel(number, sock)
        self._watch(channel)

    def _on_socket(self, channel: MuxChannel, events: int) -> None:
        # It may have been dropped by what else happened in this round.
        if events & _WRITE and self._channels.get(channel.number) is channel:
            self._write_pending(channel)
        if events & _READ and self._channels.get(channel.number) is channel:
            self._read_socket(channel)

    def _read_socket(self, channel: MuxChannel) -> None:
        if self._queue.is_full or not channel.credit:
            self._watch(channel)
            return
        try:
            data = channel.sock.recv(min(MAX_PAYLOAD_BYTES, channel.credit))
        except BlockingIOError:
            return
        except OSError:
            self._reset(channel)
            return
        if data:
            channel.credit -= len(data)
            self._send(FrameKind.DATA, channel.number, data)
        else:
            channel.read_ended = True
            self._send(FrameKind.EOF, channel.number)
        self._flush()
        if not self.ended:
            self._settle(channel)

    def _write_pending(self, channel: MuxChannel) -> None:
        try:
            while channel.pending:
                sent = channel.sock.send(channel.pending[0])
                channel.taken += sent
                if sent == len(channel.pending[0]):
                    channel.pending.popleft()
                else:
                    channel.pending[0] = channel.pending[0][sent:]
            if channel.peer_ended and not channel.shut:
                channel.shut = True
                channel.sock.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:  # nobody reads it any more
            self._reset(channel)
            return
        # When nothing waits, what is left is little and the writer has room.
        if channel.taken >= WINDOW_BYTES // 4:
            self._send(FrameKind.CREDIT, channel.number, channel.taken.to_bytes(4, "big"))
            channel.held -= channel.taken
            channel.taken = 0
            self._flush()
        if not self.ended:
            self._settle(channel)

    def _settle(self, channel: MuxChannel) -> None:
        """Drop a channel that has ended in both directions, otherwise watch its socket."""
        if channel.read_ended and channel.shut:
            self._drop(channel)
        else:
            self._watch(channel)

    def _reset(self, channel: MuxChannel) -> None:
        self._send(FrameKind.RESET, channel.number)
        self._drop(channel)
        self._flush()

    def _drop(self, channel: MuxChannel) -> None:
        if self._channels.pop(channel.number, None) is not None:
            select(self._selector, channel.sock, 0, None)
            channel.sock.close()

    def _watch(self, channel: MuxChannel) -> None:
        """Wait for what this channel can do now."""
        if self._channels.get(channel.number) is not channel:
            return
        events = _WRITE if channel.pending else 0
        if not channel.read_ended and channel.credit:
            if not self._queue.is_full:
                events |= _READ
            else:
                self._paused.add(channel.number)
        if events != channel.watched:
            channel.watched = events
            select(
                self._selector, channel.sock, events, lambda mask: self._on_socket(channel, mask)
            )
