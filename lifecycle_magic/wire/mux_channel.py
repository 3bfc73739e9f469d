"""One connection that a multiplexer carries, and the stream that carries all of them."""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

__all__ = ["WINDOW_BYTES", "MuxChannel", "NonblockingStream", "select"]

WINDOW_BYTES = 4 << 20
"""Bytes on their way on one channel: 100 MB/s at a round trip of 40 ms."""


class NonblockingStream(Protocol):
    """A stream of bytes in two directions that never blocks. ``reader`` and ``writer`` are file
    descriptors, or the same one twice.
    """

    reader: int
    writer: int

    def read(self) -> bytes | None:
        """Return what is there; None if nothing is, empty at the end. Raises `OSError`."""

    def write(self, data: memoryview) -> int:
        """Send a part of ``data`` and return its size, 0 if nothing fits. Raises `OSError`."""

    def close(self) -> None:
        """Close the stream."""


class MuxChannel:
    """One connection: a local socket, and what is on its way between it and the other end."""

    def __init__(self, number: int, sock: socket.socket) -> None:
        self.number = number
        self.sock = sock
        self.pending: deque[memoryview] = deque()  # received, and not taken by the socket yet
        self.held = 0  # bytes of pending, and of what the socket took without being credited
        self.taken = 0  # bytes that the socket took and that were not credited yet
        self.credit = WINDOW_BYTES  # bytes that may be sent to the other end
        self.read_ended = False  # the socket has no more to read
        self.peer_ended = False  # the other end sends no more
        self.shut = False  # and the socket was shut down for writing
        self.watched = 0


def select(
    selector: selectors.BaseSelector,
    file: int | socket.socket,
    events: int,
    call: Callable[[int], None] | None,
) -> None:
    """Wait for these events of a file, and for none with 0."""
    with contextlib.suppress(KeyError, ValueError):  # it was not registered
        if not events:
            selector.unregister(file)
            return
        selector.modify(file, events, call)
        return
    if events:
        selector.register(file, events, call)
