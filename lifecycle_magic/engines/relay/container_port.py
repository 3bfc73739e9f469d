"""The one port that is open while classes run on a swarm: their containers connect to it.

Nothing that arrives is read before TLS has checked the other end's certificate against the
session's own authority. Then come `TOKEN_BYTES` of a token, which is good for one connection of the
one container that the certificate names.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import os
import selectors
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from lifecycle_magic.host import relay_lock
from lifecycle_magic.wire.swarm_connection import TOKEN_BYTES
from lifecycle_magic.wire.tls_stream import TlsStream

__all__ = ["ContainerPort", "ExpectedContainer"]

HELLO_SECONDS = 10.0
"""Seconds from a connection to the end of its token."""

MAX_NEWCOMERS = 64
"""Connections at a time that have not shown a token. A further one replaces the oldest."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass
class ExpectedContainer:
    """A container that may connect. ``seconds`` is how long its end may take."""

    container: str
    run: str
    guest: str
    seconds: float
    token: str
    lock: int

    @classmethod
    def of(cls, asked: dict[str, object]) -> ExpectedContainer:
        """Return what a request describes. Raises `OSError` if another process waits for it."""
        run = str(asked["run"])
        return cls(
            str(asked["container"]),
            run,
            str(asked["guest"]),
            float(str(asked["seconds"])),
            str(asked["token"]),
            relay_lock.hold(run),
        )


class _Newcomer:
    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.late = time.monotonic() + HELLO_SECONDS
        self.is_secure = False
        self.token = b""


class ContainerPort:
    """The listener. ``on_connected`` gets who connected, with the connection.

    All methods belong to the thread of the loop.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        on_connected: Callable[[ExpectedContainer, TlsStream], None],
    ) -> None:
        self._selector = selector
        self._on_connected = on_connected
        self._expected: dict[str, ExpectedContainer] = {}
        self._newcomers: dict[int, _Newcomer] = {}  # the oldest first
        self._listener: socket.socket | None = None
        self._context: ssl.SSLContext | None = None

    @property
    def expected(self) -> list[ExpectedContainer]:
        """Return the containers that have not connected yet."""
        return list(self._expected.values())

    def expect(
        self, one: ExpectedContainer, host: str, port: int, authority: str, identity: str
    ) -> int:
        """Admit a container, and listen unless it does already. Return the port.

        The files at ``authority`` and ``identity`` are removed. Raises `OSError`.
        """
        try:
            if self._listener is None:
                self._listener, self._context = _listen(host, port, authority, identity)
                self._selector.register(
                    self._listener, selectors.EVENT_READ, lambda _: self._accept()
                )
        finally:
            for path in (authority, identity):
                with contextlib.suppress(OSError):
                    os.unlink(path)
        self._expected[one.container] = one
        return int(self._listener.getsockname()[1])

    def forget(self, container: str) -> ExpectedContainer | None:
        """Admit a container no more; return it if it had not connected yet."""
        return self._expected.pop(container, None)

    def close(self) -> None:
        """Close the listener, and the connections that have shown no token."""
        for newcomer in list(self._newcomers.values()):
            self._drop(newcomer)
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def tick(self, now: float) -> float | None:
        """Drop connections that are late. Return the seconds until the next call."""
        for newcomer in list(self._newcomers.values()):
            if newcomer.late <= now:
                self._drop(newcomer)
        first = min((one.late for one in self._newcomers.values()), default=None)
        return None if first is None else max(0.0, first - now)

    # --- newcomers -------------------------------------------------------------------------

    def _accept(self) -> None:
        if self._listener is None or self._context is None:
            return
        try:
            plain = self._listener.accept()[0]
        except OSError as error:
            if error.errno in _EXHAUSTED and self._newcomers:
                self._drop(next(iter(self._newcomers.values())))
            return  # or it has gone again
        if len(self._newcomers) >= MAX_NEWCOMERS:
            self._drop(next(iter(self._newcomers.values())))
        try:
            plain.setblocking(False)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock = self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        except OSError:
            plain.close()
            return
        newcomer = _Newcomer(sock)
        self._newcomers[newcomer.fd] = newcomer
        self._selector.register(newcomer.fd, selectors.EVENT_READ, lambda _: self._go_on(newcomer))

    def _go_on(self, newcomer: _Newcomer) -> None:
        if self._newcomers.get(newcomer.fd) is not newcomer:
            return
        events = selectors.EVENT_READ
        try:
            if not newcomer.is_secure:
                newcomer.sock.do_handshake()
                newcomer.is_secure = True
            while len(newcomer.token) < TOKEN_BYTES:
                data = newcomer.sock.recv(TOKEN_BYTES - len(newcomer.token))
                if not data:
                    raise ConnectionError("it has gone")
                newcomer.token += data
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLWantWriteError:
            events = selectors.EVENT_WRITE
        except OSError:
            self._drop(newcomer)
            return
        else:
            self._admit(newcomer)
            return
        self._selector.modify(newcomer.fd, events, lambda _: self._go_on(newcomer))

    def _admit(self, newcomer: _Newcomer) -> None:
        """Take the connection over if its certificate and its token belong together."""
        name = _name_of(newcomer.sock)
        one = self._expected.get(name)
        if one is None or not hmac.compare_digest(newcomer.token, one.token.encode()):
            self._drop(newcomer)
            return
        del self._expected[name]
        del self._newcomers[newcomer.fd]
        self._selector.unregister(newcomer.fd)
        self._on_connected(one, TlsStream(newcomer.sock))

    def _drop(self, newcomer: _Newcomer) -> None:
        self._newcomers.pop(newcomer.fd, None)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(newcomer.fd)
        with contextlib.suppress(OSError):
            newcomer.sock.close()


def _listen(
    host: str, port: int, authority: str, identity: str
) -> tuple[socket.socket, ssl.SSLContext]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority)
    context.load_cert_chain(identity)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=1024)
    listener.setblocking(False)
    return listener, context


def _name_of(sock: ssl.SSLSocket) -> str:
    """Return the common name in the other end's certificate, which was checked."""
    subject: object = (sock.getpeercert() or {}).get("subject", ())
    for part in subject if isinstance(subject, tuple) else ():
        for key, value in part:
            if key == "commonName":
                return str(value)
    return ""
