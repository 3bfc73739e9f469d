"""The session's side of calls from inside containers: where containers connect, and who they are.

There is one listener for each engine that runs containers. Its socket is linked into each
container's run folder. A connection is accepted when a container makes its first call; its token
says which container that is.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import socket
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle_magic.container.container import Container
from lifecycle_magic.engines.base import Engine, Listener
from lifecycle_magic.exception import Error, InvalidError
from lifecycle_magic.host.paths import private_folder
from lifecycle_magic.services.inside_connection import InsideConnection
from lifecycle_magic.threads.event_loop import EventLoop
from lifecycle_magic.wire import hello
from lifecycle_magic.wire.frames import Channel
from lifecycle_magic.wire.nested import Invitation

if TYPE_CHECKING:
    from lifecycle_magic.services.service import Service

__all__ = ["InsideCalls"]

_log = logging.getLogger(__name__)

_NAME = "calls"  # of the socket in a run folder
HELLO_SECONDS = 5.0
"""Seconds from a connection to the end of its hello. A container sends its hello at once."""

MAX_NEWCOMERS = 64
"""Connections at a time whose hello was not read yet. More are closed at once."""


class InsideCalls:
    """The listeners and connections of one session.

    ``find`` returns the service of a class by its key, and raises `InvalidError` if there is none.
    """

    def __init__(self, folder: Path, event_loop: EventLoop, find: Callable[[str], Service]) -> None:
        self._folder = folder
        self._event_loop = event_loop
        self._find = find
        self._lock = threading.Lock()
        self._closed = False
        self._listeners: dict[Engine, Listener] = {}
        self._containers: weakref.WeakValueDictionary[bytes, Container] = (
            weakref.WeakValueDictionary()
        )
        self._connections: set[InsideConnection] = set()
        self._newcomers: set[socket.socket] = set()

    def invite(self, engine: Engine, key: str) -> Invitation | None:
        """Return a new invitation for a container of ``engine`` that runs the class ``key``.

        None if this process can open no further socket, or the session ends: calls from inside
        then raise.
        """
        try:
            address = self._listener(engine).address
        except (OSError, Error) as error:
            _log.debug("no listener for calls from inside containers: %s", error)
            return None
        if address.startswith("unix:"):
            address = f"unix:{_NAME}"
        return Invitation(address, secrets.token_urlsafe(32), key)

    def link(self, engine: Engine, run_dir: Path) -> None:
        """Give a container with this run folder the socket to connect to."""
        with contextlib.suppress(OSError):  # TCP, or no listener: the connection reports it
            os.link(self._folder / f".{engine.name}" / "sock", run_dir / _NAME)

    def expect(self, invitation: Invitation | None, container: Container) -> None:
        """Accept the connections of a container that got an invitation."""
        if invitation is not None:
            self._containers[_digest(invitation.token)] = container

    def _listener(self, engine: Engine) -> Listener:
        with self._lock:
            if self._closed:  # a start that was requested before the session's end
                raise InvalidError("the session is closed")
            found = self._listeners.get(engine)
            if found is None:
                folder = private_folder(self._folder / f".{engine.name}")
                found = self._listeners[engine] = engine.listen(folder)
                if found.address.startswith("unix:"):
                    # The folders around it keep others out; in a container any user may call.
                    (folder / "sock").chmod(0o666)
                sock = found.sock
                sock.setblocking(False)
                self._event_loop.watch(sock, lambda: self._accept(sock))
            return found

    # --- connections -----------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
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
            _log.debug("a connection of a container was refused: %s", error)
        finally:
            self._newcomers.discard(sock)
            if connection is None:
                sock.close()
        if connection is not None:
            self._connections.add(connection)
            try:
                connection.serve()
            finally:
                self._connections.discard(connection)

    def _admit(self, sock: socket.socket) -> InsideConnection | None:
        channel = Channel(sock, max_frame=hello.MAX_HELLO_BYTES)
        greeting = hello.read_hello(channel)
        if greeting is None:
            return None
        container = self._containers.get(_digest(greeting.token))
        token = greeting.token if container is not None and greeting.role == hello.CALLS else ""
        token = token or secrets.token_urlsafe()  # of no container
        # The container's data connections were admitted before this one.
        if hello.admit_hello(channel, greeting, token, any_python=True) is None:
            return None
        assert container is not None
        sock.settimeout(None)
        return InsideConnection(channel, container, self._find)

    # --- the end ---------------------------------------------------------------------------

    def close(self) -> None:
        """Close the listeners and all connections."""
        with self._lock:
            self._closed = True
            listeners, self._listeners = list(self._listeners.values()), {}
        for listener in listeners:
            sock = listener.sock

            def close(sock: socket.socket = sock) -> None:
                self._event_loop.unwatch(sock)
                sock.close()

            self._event_loop.call_soon(close)
        for connection in list(self._connections):
            connection.shut_down()

    def close_in_fork(self) -> None:
        """Close what a forked child inherits."""
        for listener in self._listeners.values():
            listener.sock.close()
        for connection in self._connections:
            connection.close_in_fork()
        for sock in self._newcomers:
            sock.close()


def _digest(token: str) -> bytes:
    """Return the key of a token: comparing digests tells nothing about the token itself."""
    return hashlib.sha256(str(token).encode("utf-8", "replace")).digest()
