"""The endpoints of a session: an address for each web method that is served."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.web import address

if TYPE_CHECKING:
    from lifecycle_magic.web.endpoint import Endpoint
    from lifecycle_magic.web.server import HttpThread, Server
    from lifecycle_magic.web.target import Target

INSTALL = "pip install 'lifecycle-magic[web]'"
TOKEN = "LIFECYCLE_MAGIC_WEB_TOKEN"  # the variable


@dataclass(frozen=True)
class Served:
    """One address. ``url`` is how this machine reaches it, ``link`` how the user's browser does."""

    label: str
    port: int
    url: str
    link: str
    where: str
    _endpoint: Endpoint = field(repr=False)
    _server: Server = field(repr=False)

    @property
    def token(self) -> str | None:
        """The bearer token that it asks for, if it does."""
        wanted = self._endpoint.target.marks.requires_proxy_auth
        return self._endpoint.token if wanted else None


class Site:
    """All of them. Methods may be called from any thread."""

    def __init__(self) -> None:
        self._served: dict[str, Served] = {}
        self._lock = threading.Lock()
        self._thread: HttpThread | None = None
        self._token = os.environ.get(TOKEN) or secrets.token_urlsafe(24)

    def serve(self, key: str, label: str, target: Target) -> Served:
        """Serve ``target`` under ``key``, at the address that it had if it was served before.

        Raises `InvalidError` when another one has the label, or where no server is installed.
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
                        f"{target.where}: label={label!r} is the one of {other.where} already: "
                        "give each a label of its own"
                    )
            self._served.pop(key, None)
            made = self._served[key] = self._start(label, target)
        if found is not None:
            self._stop(found)
        return made

    def find(self, key: str) -> Served | None:
        return self._served.get(key)

    def below(self, prefix: str) -> dict[str, Served]:
        """Those whose key begins with ``prefix``."""
        return {key: one for key, one in list(self._served.items()) if key.startswith(prefix)}

    def withdraw(self, key: str) -> None:
        """Close an address at once; requests that run have a few seconds."""
        with self._lock:
            served = self._served.pop(key, None)
        if served is not None:
            self._stop(served)

    def close(self) -> None:
        """Close every address, wait for what is being answered, and end the thread."""
        with self._lock:
            served, self._served = list(self._served.values()), {}
            thread, self._thread = self._thread, None
        if thread is None:
            return
        for closing in [thread.stop(one._server) for one in served]:
            closing.result()
        thread.close()

    def close_in_fork(self) -> None:
        """In a forked child: let go of the addresses."""
        for one in list(self._served.values()):
            one._server.close_in_fork()

    def _start(self, label: str, target: Target) -> Served:
        try:
            from lifecycle_magic.web.endpoint import Endpoint
            from lifecycle_magic.web.server import HttpThread
        except ModuleNotFoundError as error:
            raise InvalidError(
                f"{target.where} answers HTTP, for which this kernel lacks {error.name}: {INSTALL}"
            ) from None
        if self._thread is None:
            self._thread = HttpThread()
        endpoint = Endpoint(target, self._token)
        sock = _bind(label)
        host, port = sock.getsockname()[:2]
        server = self._thread.start(sock, endpoint)
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        url = f"http://[{shown}]:{port}/" if ":" in shown else f"http://{shown}:{port}/"
        return Served(label, port, url, address.link(url, port), target.where, endpoint, server)

    def _stop(self, served: Served) -> None:
        if self._thread is not None:
            self._thread.stop(served._server)


def _bind(label: str) -> socket.socket:
    host = address.bind_address()
    error: OSError | None = None
    for port in address.ports(label):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # With its protocol: else asyncio does not see that it is TCP and leaves Nagle's delay on.
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
            sock.listen()
        except OSError as raised:
            sock.close()
            error = raised
        else:
            return sock
    raise InvalidError(f"can't listen on {host}: {error}; see LIFECYCLE_MAGIC_WEB_ADDRESS")
