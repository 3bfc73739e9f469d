"""Where a Docker engine is, and how to connect to it: what ``DOCKER_*`` variables and contexts say.

``DOCKER_HOST`` goes before ``DOCKER_CONTEXT``, as in Docker's own client. TLS is for ``tcp://``
addresses; its variables change nothing about a Unix socket.
"""

from __future__ import annotations

import os
import socket
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from lifecycle_magic.exception import EngineUnavailable
from lifecycle_magic.host import docker_contexts

if TYPE_CHECKING:
    from docker import APIClient

_DEFAULT_HOST = "unix:///var/run/docker.sock"
_FILES = ("ca.pem", "cert.pem", "key.pem")


class Location(Protocol):
    """Where an engine is. ``shown`` is its address as users write it, ``url`` is where this process
    connects; both may raise `EngineUnavailable`.
    """

    @property
    def shown(self) -> str: ...

    @property
    def url(self) -> str: ...

    @property
    def tls(self) -> TlsFiles | None: ...

    def explained(self, why: str) -> str:
        """Return why a request failed, with what else is known of the way to the engine."""


@dataclass(frozen=True)
class TlsFiles:
    """The files of a TLS connection. ``verify`` checks the engine's certificate."""

    authority: Path
    certificate: Path
    key: Path
    verify: bool


class OfEnvironment:
    """The engine that ``DOCKER_HOST`` or ``DOCKER_CONTEXT`` names now, or Docker's own."""

    @property
    def shown(self) -> str:
        return of_environment().url

    @property
    def url(self) -> str:
        return of_environment().url

    @property
    def tls(self) -> TlsFiles | None:
        return of_environment().tls

    def explained(self, why: str) -> str:
        return why


@dataclass(frozen=True)
class Fixed:
    """An engine at one address, whatever the environment says."""

    url: str
    tls: TlsFiles | None = None

    @property
    def shown(self) -> str:
        return self.url

    def explained(self, why: str) -> str:
        return why


def of_environment() -> Fixed:
    """Return where the engine is that ``DOCKER_HOST`` or ``DOCKER_CONTEXT`` names, or Docker's own.

    Raises `EngineUnavailable` for a context that there is not, and for half of a TLS setting.
    """
    if host := os.environ.get("DOCKER_HOST"):
        return Fixed(host, tls_files(host))
    context = os.environ.get("DOCKER_CONTEXT", "")
    if context in ("", "default"):
        return Fixed(_DEFAULT_HOST)
    found = of_context(context)
    if found is None:
        folder = docker_contexts.config_folder()
        raise EngineUnavailable(
            f"DOCKER_CONTEXT names the context {context!r}, which is not in {folder}. "
            "Fix: unset DOCKER_CONTEXT, or name one that docker context ls shows"
        )
    return found


@dataclass(frozen=True)
class EngineVersion:
    """The engine at an address: ``product`` with its ``version``, and its version of the API."""

    product: str
    version: str
    api: str

    @classmethod
    def of(cls, answer: dict[str, Any]) -> EngineVersion:
        """Return what an engine's ``/version`` reports.

        >>> EngineVersion.of({"Version": "20.10.24", "ApiVersion": "1.41"}).product
        'Docker'
        """
        parts = [str(part.get("Name")) for part in answer.get("Components") or ()]
        product = "Podman" if any(name.startswith("Podman") for name in parts) else "Docker"
        return cls(product, str(answer.get("Version", "unknown")), str(answer["ApiVersion"]))

    @property
    def is_podman(self) -> bool:
        """Return whether it is Podman, which answers some requests otherwise than Docker."""
        return self.product == "Podman"


def version_at(location: Location) -> EngineVersion:
    """Ask which engine answers; raises as `connect` does."""
    import docker.constants

    client = connect(docker.constants.MINIMUM_DOCKER_API_VERSION, location)
    try:
        return EngineVersion.of(client.version(api_version=False))
    finally:
        client.close()


def connect(version: str, location: Location) -> APIClient:
    """Return a client that speaks ``version`` of the API.

    Raises what ``docker`` raises, and `EngineUnavailable` for settings that can't be used.
    """
    import docker
    import docker.errors

    host = location.url
    try:
        client = docker.APIClient(base_url=host, version=version, tls=_tls(location.tls))
    except (docker.errors.InvalidConfigFile, AttributeError, TypeError, ValueError) as error:
        why = str(error).rstrip(".")
        file = docker_contexts.config_folder() / "config.json"
        raise EngineUnavailable(
            f"Docker's configuration {file} can't be read: {why}. "
            "Fix: correct the file, or set DOCKER_CONFIG to a folder with another"
        ) from None
    # requests would take the environment's CA bundle and proxies, which are for other servers.
    client.trust_env = False
    if host.startswith("unix://"):
        client.mount("http+docker://", _one_pool(host, client.timeout))
    return client


def _one_pool(host: str, timeout: float) -> Any:
    """Return an adapter that has one pool of connections: docker-py's has one for each URL.

    A process that is forked off this one closes the sockets of these connections.
    """
    from docker.transport import UnixHTTPAdapter
    from docker.transport.unixconn import UnixHTTPConnection

    class Connection(UnixHTTPConnection):
        def connect(self) -> None:
            # docker-py's own leaves the socket open when nothing answers.
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(self.timeout)
                sock.connect(self.unix_socket)
            except BaseException:
                sock.close()
                raise
            self.sock = sock
            _sockets.add(sock)

    class OnePool(UnixHTTPAdapter):
        def get_connection(self, url: str | bytes, proxies: Any = None) -> Any:
            pool: Any = super().get_connection("http+docker://localhost", proxies)
            pool._new_conn = lambda: Connection(pool.base_url, pool.socket_path, pool.timeout)
            return pool

    return OnePool(f"http+{host}", int(timeout), pool_connections=1)


_sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
"""Connections to engines. One that a forked child kept would stay open when this process closes
it, and the engine would go on with what nobody waits for.
"""


def open_sockets() -> list[socket.socket]:
    """Return the open connections to engines by Unix sockets."""
    return [sock for sock in list(_sockets) if sock.fileno() >= 0]


def _in_forked_child() -> None:
    for sock in open_sockets():
        sock.close()


os.register_at_fork(after_in_child=_in_forked_child)


def of_context(name: str) -> Fixed | None:
    """Return where the engine of Docker's context ``name`` is; None if there is no such context."""
    found = docker_contexts.endpoint(name)
    if found is None:
        return None
    url = found["Host"]
    place = docker_contexts.tls_folder(name)
    paths = [place / one for one in _FILES]
    if not all(path.is_file() for path in paths):
        return Fixed(url, tls_files(url))
    return Fixed(url, TlsFiles(paths[0], paths[1], paths[2], not found.get("SkipTLSVerify")))


def tls_files(host: str) -> TlsFiles | None:
    """Return the files that the environment names for an address, None for no TLS.

    Raises `EngineUnavailable` if some are missing.
    """
    verify = os.environ.get("DOCKER_TLS_VERIFY", "")
    folder = os.environ.get("DOCKER_CERT_PATH", "")
    if not host.startswith(("tcp://", "https://")) or not (verify or folder):
        return None
    place = Path(folder) if folder else docker_contexts.config_folder()
    if missing := [name for name in _FILES if not (place / name).is_file()]:
        variable = "DOCKER_CERT_PATH" if folder else "DOCKER_TLS_VERIFY"
        raise EngineUnavailable(
            f"{variable} asks for TLS with the engine at {host}, and {place} lacks "
            f"{', '.join(missing)}. Fix: set DOCKER_CERT_PATH to the folder that has "
            f"{', '.join(_FILES)}, or unset {variable}"
        )
    return TlsFiles(place / _FILES[0], place / _FILES[1], place / _FILES[2], bool(verify))


def _tls(files: TlsFiles | None) -> Any:
    """Return TLS settings in the form of ``docker``, False for none."""
    import docker.tls

    if files is None:
        return False
    return docker.tls.TLSConfig(
        client_cert=(str(files.certificate), str(files.key)),
        ca_cert=str(files.authority),
        verify=files.verify,
    )


def is_far(host: str) -> bool:
    """Return whether an address leads beyond this machine's Unix sockets and loopback.

    >>> is_far("ssh://me@box"), is_far("unix:///run/docker.sock"), is_far("tcp://127.0.0.1:2375")
    (True, False, False)
    """
    where = urlsplit(host)
    if where.scheme == "ssh":
        return True
    return where.scheme in ("tcp", "https") and where.hostname not in (
        *("127.0.0.1", "localhost", "::1"),
    )
