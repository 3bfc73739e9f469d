"""The session's side of calls from inside containers: where containers connect, and who they are.

There is one listener for each engine that runs containers. Its socket is linked into each
container's run folder. A connection is accepted when a container makes its first call; its key
says which container that is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import threading
import weakref
from pathlib import Path

from lifecycle_magic.container.container import Container
from lifecycle_magic.engines.base import Engine, Listener
from lifecycle_magic.exception import Error, InvalidError
from lifecycle_magic.host.paths import file_name, private_folder
from lifecycle_magic.services.acceptor import Acceptor
from lifecycle_magic.services.call_sources import ContainerSource, FindService, SessionCalls
from lifecycle_magic.services.caller_watch import caller_watch
from lifecycle_magic.services.concurrent_connection import ConcurrentConnection
from lifecycle_magic.services.serial_connection import SerialConnection
from lifecycle_magic.threads.event_loop import EventLoop
from lifecycle_magic.wire import hello
from lifecycle_magic.wire.frames import Channel
from lifecycle_magic.wire.nested import Invitation
from lifecycle_magic.wire.proofs import key_id

__all__ = ["SOCKET_NAME", "ContainerCalls"]

_log = logging.getLogger(__name__)

SOCKET_NAME = "calls"
"""The name of the socket in a run folder."""


class ContainerCalls:
    """The listeners and connections of one session.

    ``find`` returns the service of a class by its key.
    """

    def __init__(
        self, folder: Path, event_loop: EventLoop, find: FindService, calls: SessionCalls
    ) -> None:
        self._folder = folder
        self._event_loop = event_loop
        self._find = find
        self._lock = threading.Lock()
        self._closed = False
        self._listeners: dict[Engine, Listener] = {}
        self._containers: weakref.WeakValueDictionary[str, Container] = (
            weakref.WeakValueDictionary()
        )
        self._keys: weakref.WeakKeyDictionary[Container, str] = weakref.WeakKeyDictionary()
        self._calls = calls
        self._acceptor = Acceptor(self._admit)
        self._callers = caller_watch(event_loop)

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
        if not address.startswith("tcp:"):
            address = f"unix:{SOCKET_NAME}"  # where a relay takes the connection too
        return Invitation(address, secrets.token_urlsafe(32), key, self._calls.id)

    def link(self, engine: Engine, run_dir: Path) -> None:
        """Give a container with this run folder the socket to connect to."""
        with contextlib.suppress(OSError):  # TCP, or no listener: the connection reports it
            os.link(self._folder / _folder_of(engine) / "sock", run_dir / SOCKET_NAME)

    def expect(self, invitation: Invitation | None, container: Container) -> None:
        """Accept the connections of a container that got an invitation."""
        if invitation is not None:
            self._keys[container] = invitation.token
            self._containers[key_id(invitation.token)] = container

    def _listener(self, engine: Engine) -> Listener:
        with self._lock:
            if self._closed:  # a start that was requested before the session's end
                raise InvalidError("the session is closed")
            found = self._listeners.get(engine)
            if found is None:
                folder = private_folder(self._folder / _folder_of(engine))
                found = self._listeners[engine] = engine.listen(folder)
                if found.shares_files:
                    # The folders around it keep others out; in a container any user may call.
                    (folder / "sock").chmod(0o666)
                sock = found.sock
                sock.setblocking(False)
                self._event_loop.watch(sock, lambda: self._acceptor.accept(sock))
            return found

    # --- connections -----------------------------------------------------------------------

    def _admit(self, sock: socket.socket) -> ConcurrentConnection | None:
        channel = Channel(sock, max_frame=hello.MAX_HELLO_BYTES)
        greeting = hello.read_hello(channel)
        if greeting is None:
            return None
        container = self._containers.get(str(greeting.token))
        if container is None or greeting.role not in (hello.CALLS, hello.SERIAL):
            hello.refuse(channel, hello.WRONG_TOKEN)
            return None
        token = self._keys[container]
        listener = self._listeners.get(container.engine)
        # The container's data connections were admitted before this one.
        admitted = hello.admit_hello(
            *(channel, greeting, token),
            any_python=True,
            is_key=True,
            shares=listener is not None and listener.shares_files,
        )
        if admitted is None:
            return None
        sock.settimeout(None)
        source = ContainerSource(container, self._find)
        if greeting.role == hello.SERIAL:
            return SerialConnection(channel, source, self._calls, self._callers)
        return ConcurrentConnection(channel, source, self._calls)

    @property
    def connections(self) -> set[ConcurrentConnection]:
        """The connections of containers."""
        return self._acceptor.connections

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
        self._acceptor.shut_down()
        self._callers.close()

    def close_in_fork(self) -> None:
        """Close what a forked child inherits."""
        for listener in self._listeners.values():
            listener.sock.close()
        self._callers.close_in_fork()
        self._acceptor.close_in_fork()


def _folder_of(engine: Engine) -> str:
    """Return the name of the folder with the socket for this engine's containers."""
    return f".{file_name(engine.name)}"
