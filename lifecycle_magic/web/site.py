"""The endpoints of a session: one address for each web method that is served."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.web import address
from lifecycle_magic.web.port_users import foreign_listener

if TYPE_CHECKING:
    from lifecycle_magic.web.endpoint import Endpoint
    from lifecycle_magic.web.server import HttpThread, UvicornServer
    from lifecycle_magic.web.target import Target

INSTALL_COMMAND = "pip install 'lifecycle-magic[web]'"
TOKEN_VARIABLE = "LIFECYCLE_MAGIC_WEB_TOKEN"  # an environment variable


@dataclass(frozen=True)
class ServedAddress:
    """One address: ``url`` is for this machine, ``link`` for the user's browser.

    ``warning`` is empty, or reports that another user listens on the port that clients may expect.
    """

    label: str
    port: int
    url: str
    link: str
    where: str
    warning: str
    _endpoint: Endpoint = field(repr=False)
    _server: UvicornServer = field(repr=False)

    @property
    def token(self) -> str | None:
        """The bearer token that the address requires; None if it requires none."""
        wanted = self._endpoint.target.marks.requires_proxy_auth
        return self._endpoint.token if wanted else None


class Site:
    """All endpoints of a session. The methods may be called from any thread."""

    def __init__(self) -> None:
        self._served: dict[str, ServedAddress] = {}
        self._lock = threading.Lock()
        self._thread: HttpThread | None = None
        self._token = os.environ.get(TOKEN_VARIABLE) or secrets.token_urlsafe(24)

    @property
    def connections(self) -> int:
        """The number of connections that clients have open."""
        return 0 if self._thread is None else len(self._thread.connections)

    def serve(self, key: str, label: str, target: Target) -> ServedAddress:
        """Serve ``target`` under ``key``, at the same address as before if the label is the same.

        Raises `InvalidError` if another target has the label, or if no server is installed.
        """
        with self._lock:
            found = self._served.get(key)
            if found is not None and found.label == label:
                found._endpoint.retarget(target)
                return found
            if target.marks.label:
                other = next((s for s in self._served.values() if s.label == label), None)
                if other is not None:
                    raise InvalidError(
                        f"{target.where}: label={label!r} is already used by {other.where}. "
                        "Fix: give each method its own label"
                    )
            self._served.pop(key, None)
            made = self._served[key] = self._start(label, target)
        if found is not None:
            self._stop(found)
        return made

    def find(self, key: str) -> ServedAddress | None:
        """Return the address that is served under ``key``; None if there is none."""
        return self._served.get(key)

    def withdraw(self, key: str) -> None:
        """Close an address now; running requests have a few seconds to end."""
        with self._lock:
            served = self._served.pop(key, None)
        if served is not None:
            self._stop(served)

    def close(self) -> None:
        """Close every address, wait for running requests, and stop the thread."""
        with self._lock:
            served, self._served = list(self._served.values()), {}
            thread, self._thread = self._thread, None
        if thread is None:
            return
        for closing in [thread.stop(one._server) for one in served]:
            closing.result()
        thread.close()

    def close_in_fork(self) -> None:
        """Close addresses and connections in a forked child: they belong to the parent."""
        for one in list(self._served.values()):
            one._server.close_in_fork()
        if self._thread is not None:
            self._thread.connections.close_in_fork()

    def _start(self, label: str, target: Target) -> ServedAddress:
        try:
            from lifecycle_magic.web.endpoint import Endpoint
            from lifecycle_magic.web.server import HttpThread
        except ModuleNotFoundError as error:
            raise InvalidError(
                f"{target.where} answers HTTP, but {error.name} is not installed in the kernel's "
                f"environment. Fix: {INSTALL_COMMAND}"
            ) from None
        if self._thread is None:
            self._thread = HttpThread()
        endpoint = Endpoint(target, self._token)
        sock, warning = _bind(label)
        if warning:
            warning = f"{target.where}: {warning}"
            logging.getLogger("lifecycle_magic.web").warning("%s", warning)
        host, port = sock.getsockname()[:2]
        server = self._thread.start(sock, endpoint)
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        url = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
        link = address.link(url, port)
        return ServedAddress(label, port, url, link, target.where, warning, endpoint, server)

    def _stop(self, served: ServedAddress) -> None:
        if self._thread is not None:
            self._thread.stop(served._server)


def _bind(label: str) -> tuple[socket.socket, str]:
    """Return a socket that listens on the label's port or a later one, and a warning or nothing."""
    warning = ""
    host = address.bind_address()
    error: OSError | None = None
    for port in address.ports(label):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # With the protocol: otherwise asyncio does not recognise TCP and keeps Nagle's delay on.
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
            sock.listen()
        except OSError as raised:
            sock.close()
            error = raised
            if not warning and (user := foreign_listener(port)) is not None:
                warning = (
                    f"the usual port {port} is used by the user {user}, who receives what clients "
                    "of the old address send, including tokens. Fix: give those clients the new "
                    f"address, and set another {TOKEN_VARIABLE} if they may have sent the old one"
                )
        else:
            return sock, warning
    raise InvalidError(
        f"can't listen on {host}: {error}. Fix: set LIFECYCLE_MAGIC_WEB_ADDRESS to an address of "
        "this machine"
    )
