"""The frames of a multiplexer: many connections and some messages over one stream of bytes.

A frame is a header (kind, channel, length) and at most `MAX_PAYLOAD_BYTES` of payload. Neither end
trusts the other: `FrameReader` raises `WireError` for whatever it does not know, before it keeps
anything of it.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

from lifecycle_magic.exception import WireError

__all__ = ["MAX_PAYLOAD_BYTES", "FrameKind", "FrameReader", "MuxFrame", "pack_frame"]

MAX_PAYLOAD_BYTES = 1 << 16
"""Bytes of one frame's payload: a short frame never waits long for a long one."""

_HEADER = struct.Struct("!BII")  # kind, channel, length of the payload


class FrameKind(enum.IntEnum):
    """The kind of a frame; what is in its payload stands beside it."""

    OPEN = 1  # the name of what to connect to; the container's end opens
    DATA = 2  # bytes of a channel
    CREDIT = 3  # how many bytes more may be sent on a channel, as four bytes
    EOF = 4  # no more bytes come on this channel
    RESET = 5  # the channel has ended in both directions
    PING = 6  # the kernel's end is there; answered by PONG
    PONG = 7
    GONE = 8  # the kernel has exited
    PART = 9  # a part of a message, and MESSAGE its last part
    MESSAGE = 10
    BYE = 11  # the last frame of this end
    KILL = 12  # kill what runs in the container, where no engine does it at once
    DIAL = 13  # the name of a socket in the container, for which its end opens a channel


_LENGTHS = {
    FrameKind.OPEN: range(1, 65),
    FrameKind.DIAL: range(1, 65),
    FrameKind.DATA: range(1, MAX_PAYLOAD_BYTES + 1),
    FrameKind.CREDIT: range(4, 5),
    FrameKind.PART: range(MAX_PAYLOAD_BYTES + 1),
    FrameKind.MESSAGE: range(MAX_PAYLOAD_BYTES + 1),
}


class MuxFrame(NamedTuple):
    """One frame."""

    kind: FrameKind
    channel: int
    payload: bytes


def pack_frame(kind: FrameKind, channel: int = 0, payload: bytes = b"") -> bytes:
    """Return a frame as it is sent."""
    return _HEADER.pack(kind, channel, len(payload)) + payload


class FrameReader:
    """Takes frames out of a stream that arrives in pieces of any size.

    >>> reader = FrameReader()
    >>> data = pack_frame(FrameKind.DATA, 3, b"abc")
    >>> reader.feed(data[:5]), reader.feed(data[5:])[0].payload
    ([], b'abc')
    """

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[MuxFrame]:
        """Return the frames that are complete with ``data``. Raises `WireError`."""
        self._data += data
        frames = []
        at = 0
        while len(self._data) - at >= _HEADER.size:
            number, channel, length = _HEADER.unpack_from(self._data, at)
            kind = _known(number, length)
            end = at + _HEADER.size + length
            if len(self._data) < end:
                break
            frames.append(MuxFrame(kind, channel, bytes(self._data[at + _HEADER.size : end])))
            at = end
        del self._data[:at]
        return frames


def _known(number: int, length: int) -> FrameKind:
    try:
        kind = FrameKind(number)
    except ValueError:
        raise WireError(f"a multiplexed frame of the unknown kind {number}") from None
    if length not in _LENGTHS.get(kind, range(1)):
        raise WireError(f"a multiplexed frame {kind.name} of {length} bytes")
    return kind
