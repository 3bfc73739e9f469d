"""The session's side of calls by name: where other processes of this user connect.

The socket, the token and the record of what is served are in a folder of the session that only
this user can read. The user on the other side of the socket is checked besides.
"""

from __future__ import annotations

import dataclasses
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from lifecycle_magic.engines.listener import unix_socket
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.host.paths import private_folder
from lifecycle_magic.host.private_file import write_private
from lifecycle_magic.host.served_names import FOLDER, Served, label_of_this_process
from lifecycle_magic.host.user_of_socket import is_own_user
from lifecycle_magic.services.acceptor import Acceptor
from lifecycle_magic.services.call_sources import FindService, ProcessSource, SessionCalls
from lifecycle_magic.services.caller_watch import caller_watch
from lifecycle_magic.services.concurrent_connection import ConcurrentConnection
from lifecycle_magic.services.serial_connection import SerialConnection
from lifecycle_magic.threads.event_loop import EventLoop
from lifecycle_magic.wire import hello
from lifecycle_magic.wire.frame_header import PROTOCOL
from lifecycle_magic.wire.frames import Channel, Kind
from lifecycle_magic.wire.python_versions import python_minor

__all__ = ["PeerCalls"]


class PeerCalls:
    """The listener and the connections of one session, and the record of what it serves.

    ``find`` returns the service of a class by the name of its app and its own, as ``app/name``.
    """

    def __init__(
        self,
        folder: Path,
        owner: Owner,
        event_loop: EventLoop,
        find: FindService,
        serves: Callable[[str], bool],
        calls: SessionCalls,
    ) -> None:
        self._event_loop = event_loop
        self._source = ProcessSource(find, serves)
        self._calls = calls
        self._acceptor = Acceptor(self._admit)
        self._callers = caller_watch(event_loop)
        self._lock = threading.Lock()
        self._is_closed = False
        place = private_folder(folder / FOLDER)
        self._token = secrets.token_urlsafe(32)
        write_private(place / "token", self._token)
        self._listener = _listen(place / "sock")
        event_loop.watch(self._listener, lambda: self._acceptor.accept(self._listener))
        self._served = Served(
            session=folder.name,
            folder=folder,
            owner=owner,
            label=label_of_this_process(),
            protocol=PROTOCOL,
            python=python_minor(),
            began=time.time(),
            names={},
        )

    def publish(self, names: dict[str, dict[str, str]], deployment: str = "") -> None:
        """Record what the session serves. Raises `OSError`, for example for a full disk."""
        with self._lock:
            if self._is_closed:
                return
            self._served = dataclasses.replace(
                self._served, names=names, deployment=deployment, label=label_of_this_process()
            )
            self._served.write()

    @property
    def connections(self) -> set[ConcurrentConnection]:
        """The connections of other processes."""
        return self._acceptor.connections

    def _admit(self, sock: socket.socket) -> ConcurrentConnection | None:
        if not is_own_user(sock):
            return None
        channel = Channel(sock, max_frame=hello.MAX_HELLO_BYTES)
        greeting = hello.read_hello(channel)
        if greeting is None or not hello.admit_named(channel, greeting, self._token):
            return None
        sock.settimeout(None)
        if greeting.role == hello.SERIAL:
            return SerialConnection(channel, self._source, self._calls, self._callers)
        connection = ConcurrentConnection(channel, self._source, self._calls)
        if self._is_closed:  # its caller has read the record before
            connection.notify(Kind.LEAVING)
        return connection

    def leave(self) -> None:
        """Send callers to the session that replaces this one. Calls that run are answered."""
        with self._lock:
            self._is_closed = True
            self._served.remove()
        for connection in list(self.connections):
            connection.notify(Kind.LEAVING)

    def close(self) -> None:
        """End all connections, and accept no more."""
        with self._lock:
            self._is_closed = True
            self._served.remove()

        def close() -> None:
            self._event_loop.unwatch(self._listener)
            self._listener.close()

        self._event_loop.call_soon(close)
        self._acceptor.shut_down()
        self._callers.close()

    def close_in_fork(self) -> None:
        """Close what a forked child inherits."""
        self._listener.close()
        self._callers.close_in_fork()
        self._acceptor.close_in_fork()


def _listen(path: Path) -> socket.socket:
    listener = unix_socket(path)
    listener.setblocking(False)
    return listener
