"""Limits for every client: the number of connections, and the time and size of a request's head.

They apply before the ``Host`` and the token of a request are known, so they have to be cheap for
the kernel.
"""

from __future__ import annotations

import enum
import os
import resource
from collections.abc import Callable
from typing import Any

import h11

from lifecycle_magic.web.gathering import GatheringProtocol

__all__ = ["BoundedProtocol", "ClientConnections", "ConnectionUse"]

HEAD_BYTES = 1 << 16
"""The most bytes of a request's head."""

HEAD_SECONDS = 10.0
"""Seconds from a connection, or from the first byte of a later request, to the end of a head."""

UPGRADE_LINES = 100
UPGRADE_LINE_BYTES = 8000
"""The most lines of a WebSocket's handshake, and the most bytes of each.

The websockets library takes 128 lines of 8192 bytes.
"""

_BODY_HEADERS = (b"content-length", b"transfer-encoding")

MAX_CONNECTIONS = 1000


class ConnectionUse(enum.Enum):
    """The current use of a connection."""

    UNUSED = enum.auto()  # no request came yet
    IDLE = enum.auto()  # its last request was answered
    BUSY = enum.auto()  # a request is being answered, or it is a WebSocket


class ClientConnections:
    """The open connections of one kernel, at most ``limit``: a quarter of descriptors.

    At the limit, a new connection replaces the oldest that has sent no request yet; if there is
    none, the oldest that waits for its next request. If all connections have a request that is
    being answered, the new connection is closed.
    """

    def __init__(self) -> None:
        self.limit = _connection_limit()
        self._open: dict[Any, Callable[[], ConnectionUse]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, transport: Any, use: Callable[[], ConnectionUse]) -> None:
        """Add a connection; ``use`` returns what it is used for at the moment."""
        if len(self._open) >= self.limit:
            oldest = self._choose_oldest()
            if oldest is None:
                transport.abort()
                return
            self.remove(oldest)
            oldest.abort()
        self._open[transport] = use

    def _choose_oldest(self) -> Any:
        """Return the connection that is missed least, or None.

        A client that keeps its connection for the next request must not lose it to a flood of
        connections that never ask for anything.
        """
        idle = None
        for transport, use in self._open.items():
            match use():
                case ConnectionUse.UNUSED:
                    return transport
                case ConnectionUse.IDLE:
                    idle = idle or transport
        return idle

    def remove(self, transport: Any) -> None:
        """Remove a connection."""
        self._open.pop(transport, None)

    def close_in_fork(self) -> None:
        """Close all connections in a forked child: its copies would keep clients waiting."""
        for transport in self._open:
            sock = transport.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                os.close(sock.fileno())  # the event loop, which owns the object, does not run here
        self._open.clear()


def _connection_limit() -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(8, min(MAX_CONNECTIONS, soft // 4))


class BoundedProtocol(GatheringProtocol):
    """uvicorn's HTTP protocol, with limits; the connections are in ``config.open_connections``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True  # set by httptools' callbacks; h11 has a state
        self._heads = 0  # complete heads on this connection
        self._head_bytes = 0  # bytes of the incomplete head
        self._framing_bytes = 0  # bytes since the head or the last piece of body
        self._is_websocket = False
        self._timer: Any = None

    # --- the connection --------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start_timer()
        self.config.open_connections.add(self.transport, self._use)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self.config.open_connections.remove(self.transport)
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, *args: Any) -> None:
        """Hand the connection to the WebSocket protocol; it counts until it is closed.

        A handshake that has a body, or exceeds the limits of the WebSocket library, is refused
        here, because uvicorn would never answer it.
        """
        target = args[0].target if args else self.url  # h11 has an event, httptools has not
        lines = [target, *(name + value for name, value in self.headers)]
        if len(lines) > UPGRADE_LINES or max(map(len, lines)) > UPGRADE_LINE_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")
            return
        if any(name in _BODY_HEADERS and value != b"0" for name, value in self.headers):
            self._refuse(b"400 Bad Request")
            return
        self._is_websocket = True
        self._stop_timer()
        super().handle_websocket_upgrade(*args)
        following = self.transport.get_protocol()
        lost = following.connection_lost

        def connection_lost(exc: Exception | None) -> None:
            self.config.open_connections.remove(self.transport)
            lost(exc)

        following.connection_lost = connection_lost

    def _is_idle(self) -> bool:
        """Return whether no request is being answered here."""
        return not self._is_websocket and (self.cycle is None or self.cycle.response_complete)

    def _use(self) -> ConnectionUse:
        if not self._is_idle():
            return ConnectionUse.BUSY
        return ConnectionUse.UNUSED if self.cycle is None else ConnectionUse.IDLE

    # --- the head of a request -------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if not self._reads_head():
            self._framing_bytes += len(data)
            super().data_received(data)
            by_httptools = not hasattr(self, "conn")  # h11 has a limit of its own
            if by_httptools and self._framing_bytes > HEAD_BYTES and not self._is_websocket:
                self.transport.close()  # an endless trailer or chunk extension
            return
        if self._head_bytes + len(data) > HEAD_BYTES and self._end_of_head(data) > HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")
            return
        before = self._heads
        super().data_received(data)
        if self._heads == before and self._reads_head():
            self._head_bytes += len(data)
            if self._is_idle():
                self._start_timer()
        else:
            self._head_bytes = 0
            self._stop_timer()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._head_bytes:
            self._start_timer()

    def _reads_head(self) -> bool:
        conn = getattr(self, "conn", None)
        return self._in_head if conn is None else conn.their_state is h11.IDLE

    def _end_of_head(self, data: bytes) -> int:
        """Return the bytes of the head, or of its part received so far."""
        ends = [data.find(end) for end in (b"\r\n\r\n", b"\n\n")]
        found = [end for end in ends if end >= 0]
        return self._head_bytes + (min(found) if found else len(data))

    def _start_timer(self) -> None:
        if self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(HEAD_SECONDS, self._on_head_timeout)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_head_timeout(self) -> None:
        self._timer = None
        if self._head_bytes:
            self._refuse(b"408 Request Timeout")
        else:
            self.transport.close()

    def _refuse(self, status: bytes) -> None:
        self._stop_timer()
        if self._is_idle() and not self.transport.is_closing():
            head = b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            self.transport.write(head)
        self.transport.close()

    # --- callbacks of httptools ------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # otherwise a trailer after the last chunk of a body
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._framing_bytes = 0
        super().on_body(body)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._framing_bytes = 0
        self._heads += 1
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True
