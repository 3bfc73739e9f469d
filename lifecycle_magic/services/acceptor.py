"""Accepting connections to a session: a thread for each, and a bound on unknown ones."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable

from lifecycle_magic.services.concurrent_connection import ConcurrentConnection

__all__ = ["HELLO_SECONDS", "MAX_NEWCOMERS", "Acceptor"]

_log = logging.getLogger(__name__)

HELLO_SECONDS = 5.0
"""Seconds from a connection to the end of its hello. A caller sends its hello at once."""

MAX_NEWCOMERS = 64
"""Connections at a time whose hello was not read yet. More are closed at once."""


class Acceptor:
    """The connections of one kind. ``admit`` reads the hello; None refuses the connection."""

    def __init__(self, admit: Callable[[socket.socket], ConcurrentConnection | None]) -> None:
        self._admit = admit
        self.connections: set[ConcurrentConnection] = set()
        self._newcomers: set[socket.socket] = set()

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection. On the event loop's thread."""
        try:
            sock = listener.accept()[0]
        except OSError:
            return
        if len(self._newcomers) >= MAX_NEWCOMERS:
            sock.close()
            return
        self._newcomers.add(sock)
        try:
            threading.Thread(
                target=self._serve, args=(sock,), name="lifecycle-inside", daemon=True
            ).start()
        except RuntimeError:  # a limit on threads
            self._newcomers.discard(sock)
            sock.close()

    def _serve(self, sock: socket.socket) -> None:
        connection = None
        try:
            sock.settimeout(HELLO_SECONDS)
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = self._admit(sock)
        except OSError as error:
            _log.debug("a connection was refused: %s", error)
        finally:
            self._newcomers.discard(sock)
            if connection is None:
                sock.close()
        if connection is not None:
            self.connections.add(connection)
            try:
                connection.serve()
            finally:
                self.connections.discard(connection)

    def shut_down(self) -> None:
        """End all connections."""
        for connection in list(self.connections):
            connection.shut_down()

    def close_in_fork(self) -> None:
        """Close what a forked child inherits."""
        for connection in self.connections:
            connection.close_in_fork()
        for sock in self._newcomers:
            sock.close()
