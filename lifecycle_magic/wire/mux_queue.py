"""The frames that wait until the stream of a multiplexer takes them."""

from __future__ import annotations

from collections import deque

from lifecycle_magic.wire.mux_channel import NonblockingStream
from lifecycle_magic.wire.mux_frames import FrameKind, pack_frame

__all__ = ["FrameQueue"]

MAX_QUEUE_BYTES = 256 << 10
"""Bytes of a full queue. Beyond, no socket is read: what waits is fair to all channels, and a short
frame is at most that many bytes late."""


class FrameQueue:
    """A queue of frames, behind the bytes ``first``."""

    def __init__(self, first: bytes) -> None:
        self._parts: deque[memoryview] = deque([memoryview(first)] if first else [])
        self._bytes = len(first)

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def is_full(self) -> bool:
        """Return whether no more should be read from the sockets."""
        return self._bytes >= MAX_QUEUE_BYTES

    @property
    def has_room(self) -> bool:
        """Return whether sockets that were not read may be read again."""
        return self._bytes < MAX_QUEUE_BYTES // 2

    def add(self, kind: FrameKind, channel: int, payload: bytes) -> None:
        """Add a frame."""
        data = pack_frame(kind, channel, payload)
        self._parts.append(memoryview(data))
        self._bytes += len(data)

    def write_to(self, stream: NonblockingStream) -> None:
        """Send what the stream takes now. Raises `OSError`."""
        while self._parts:
            sent = stream.write(self._parts[0])
            if not sent:
                return
            self._bytes -= sent
            if sent == len(self._parts[0]):
                self._parts.popleft()
            else:
                self._parts[0] = self._parts[0][sent:]
