"""The kernels that a relay serves: the one that started it, and those that adopt its containers.

A container with ``keep`` outlives its kernel, and its stream belongs to the relay. So the relay
listens in the container's run folder, which is a folder of this machine with mode 0700:

    kept       requests to the supervisor (`lifecycle_magic.guest.keeping`), each of which becomes
               a channel of the stream
    takeover   the kernel that adopts the container: its lines are those of `relay`
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lifecycle_magic.engines.listener import unix_socket
from lifecycle_magic.exception import EngineError

__all__ = ["KEPT", "TAKEOVER", "KeptSockets", "KernelConnection"]

KEPT = "kept"
TAKEOVER = "takeover"

MAX_WAITING = 16
"""Connections at a time for which no channel is open yet. A further one replaces the oldest."""


class KernelConnection:
    """A kernel that uses this relay. Its end is the kernel's end."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._data = b""

    def send(self, **message: object) -> None:
        """Send a line."""
        with contextlib.suppress(OSError):  # the kernel has exited, as the loop will see
            self.sock.sendall(json.dumps(message).encode() + b"\n")

    def read(self) -> list[dict[str, Any]] | None:
        """Return the lines that have arrived; None if the kernel has exited."""
        try:
            data = self.sock.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            return None
        *lines, self._data = (self._data + data).split(b"\n")
        try:
            return [json.loads(line) for line in lines]
        except ValueError:  # no kernel sends that
            return None


class KeptSockets:
    """The sockets in the run folder ``run`` by which a container without a kernel is reached.

    ``on_request`` is called when a connection to the supervisor waits, and ``on_kernel`` gets the
    connection of a kernel. Raises `EngineError`.
    """

    def __init__(
        self,
        run: str,
        selector: selectors.BaseSelector,
        on_request: Callable[[], None],
        on_kernel: Callable[[socket.socket], None],
    ) -> None:
        self._run = run
        self._selector = selector
        self._on_request = on_request
        self._waiting: deque[socket.socket] = deque()
        self._carried: list[socket.socket] = []
        self._listeners: list[socket.socket] = []
        try:
            self._listen(KEPT, self._add)
            self._listen(TAKEOVER, on_kernel)
        except EngineError:
            self.close()
            raise

    def _listen(self, name: str, on_connection: Callable[[socket.socket], None]) -> None:
        path = os.path.join(self._run, name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener = unix_socket(Path(path))
        listener.setblocking(False)
        self._listeners.append(listener)

        def accept(_: int) -> None:
            with contextlib.suppress(OSError):
                sock = listener.accept()[0]
                sock.setblocking(True)
                on_connection(sock)

        self._selector.register(listener, selectors.EVENT_READ, accept)

    def _add(self, sock: socket.socket) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft().close()
        self._waiting.append(sock)
        self._on_request()

    def take(self) -> socket.socket | None:
        """Return the connection that waits for the next channel."""
        if not self._waiting:
            return None
        self._carried = [one for one in self._carried if one.fileno() >= 0]
        self._carried.append(self._waiting.popleft())
        return self._carried[-1]

    @property
    def carried(self) -> list[socket.socket]:
        """The connections that have a channel, which belong to no kernel."""
        return self._carried

    def close(self) -> None:
        """Listen no more, and close the connections that wait."""
        for listener in self._listeners:
            with contextlib.suppress(KeyError):
                self._selector.unregister(listener)
            listener.close()
        for sock in self._waiting:
            sock.close()
        self._waiting.clear()
        for name in (KEPT, TAKEOVER):
            with contextlib.suppress(OSError):  # the kernel has removed the folder
                os.unlink(os.path.join(self._run, name))
