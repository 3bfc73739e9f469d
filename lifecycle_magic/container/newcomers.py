"""Connections that have not proved yet that they come from the expected container.

Over TCP, any process on this machine can connect. All newcomers are read at once, and each has one
deadline for its whole hello: neither silence nor single bytes delay the container's own connection.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time

from lifecycle_magic.wire import hello
from lifecycle_magic.wire.frames import Channel

__all__ = ["Newcomers"]

HELLO_SECONDS = 5.0
"""Seconds from a connection to the end of its hello. A container sends its hello at once."""

MAX_NEWCOMERS = 64
"""Newcomers at a time. A further one replaces the oldest."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Errors of accept(2) for which a newcomer that disconnects makes room."""

_DISCONNECTED = (
    *(errno.EAGAIN, errno.ECONNABORTED, errno.EPROTO, errno.ENOPROTOOPT, errno.EOPNOTSUPP),
    *(errno.EPERM, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH),
)
"""Errors of accept(2) that concern a newcomer which has disconnected again."""


class Newcomers:
    """The newcomers of one listener. ``sockets`` gets the socket of each one that is admitted.

    ``any_python`` admits containers with another supported Python than this one.
    """

    def __init__(
        self,
        listener: socket.socket,
        token: str,
        sockets: list[socket.socket],
        *,
        any_python: bool = False,
    ) -> None:
        self._any_python = any_python
        self._listener = listener
        self._token = token
        self._sockets = sockets
        self._waiting: dict[int, tuple[Channel, float]] = {}  # with its deadline; the oldest first
        self._ready = select.poll()
        self._ready.register(listener, select.POLLIN)
        listener.setblocking(False)  # a newcomer may disconnect before it is accepted

    @property
    def waiting(self) -> int:
        """The number of connections that have sent no whole hello yet."""
        return len(self._waiting)

    def admit(self, timeout: float) -> tuple[hello.Hello, Channel] | None:
        """Return the next admitted connection, or None after ``timeout`` seconds.

        Raises `HandshakeError` as `hello.admit_channel` does, and `OSError` if this process can
        open no further descriptor although no newcomer holds one.
        """
        end = time.monotonic() + timeout
        while (now := time.monotonic()) < end:
            self._drop_late(now)
            until = min([end, *(late for _, late in self._waiting.values())])
            ready = [fd for fd, _ in self._ready.poll(max(until - now, 0) * 1000)]
            for fd in ready:
                if (admitted := self._read_hello(fd)) is not None:
                    return admitted
            if self._listener.fileno() in ready:
                self._accept()  # last: it may replace a newcomer, but none whose hello is here
        return None

    def close(self) -> None:
        """Close the connections that were not admitted."""
        for fd in list(self._waiting):
            self._drop(fd)

    def _accept(self) -> None:
        try:
            sock = self._listener.accept()[0]
        except OSError as error:
            if error.errno in _EXHAUSTED and self._waiting:
                self._drop(next(iter(self._waiting)))  # the new one is accepted in the next round
            elif error.errno not in _DISCONNECTED:
                raise
            return
        sock.setblocking(True)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self._waiting) >= MAX_NEWCOMERS:
            self._drop(next(iter(self._waiting)))
        late = time.monotonic() + HELLO_SECONDS
        self._waiting[sock.fileno()] = Channel(sock, max_frame=hello.MAX_HELLO_BYTES), late
        self._ready.register(sock, select.POLLIN)

    def _read_hello(self, fd: int) -> tuple[hello.Hello, Channel] | None:
        if fd not in self._waiting:
            return None  # the listener
        channel = self._waiting[fd][0]
        whole = channel.read_available()
        if whole is None:
            self._drop(fd)
        elif whole:
            self._forget(fd)
            self._sockets.append(channel.sock)  # closed with the others, whatever happens to it
            admitted = hello.admit_channel(channel, self._token, any_python=self._any_python)
            if admitted is None:
                self._sockets.remove(channel.sock)
                channel.close()
            return admitted
        return None

    def _drop_late(self, now: float) -> None:
        for fd, (_, late) in list(self._waiting.items()):
            if late <= now:
                self._drop(fd)

    def _drop(self, fd: int) -> None:
        channel = self._forget(fd)
        with contextlib.suppress(OSError):
            channel.close()

    def _forget(self, fd: int) -> Channel:
        self._ready.unregister(fd)
        return self._waiting.pop(fd)[0]
