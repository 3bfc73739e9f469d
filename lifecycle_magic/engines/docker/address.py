"""Where the Docker engine is, and how to connect to it: what ``DOCKER_*`` variables say.

``DOCKER_HOST`` goes before ``DOCKER_CONTEXT``, as in Docker's own client. TLS is for ``tcp://``
addresses; its variables change nothing about a Unix socket.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle_magic.exception import EngineUnavailable

if TYPE_CHECKING:
    from docker import APIClient

_DEFAULT_HOST = "unix:///var/run/docker.sock"
_FILES = ("ca.pem", "cert.pem", "key.pem")


def docker_host() -> str:
    """Return the address of the engine: of ``DOCKER_HOST``, ``DOCKER_CONTEXT``, or Docker's own.

    Raises `EngineUnavailable` for a context that there is not.
    """
    if host := os.environ.get("DOCKER_HOST"):
        return host
    context = os.environ.get("DOCKER_CONTEXT", "")
    return _DEFAULT_HOST if context in ("", "default") else _of_context(context)


def connect(version: str | None) -> APIClient:
    """Return a client that speaks ``version`` of the API, or if that is None the engine's own.

    Raises what ``docker`` raises, and `EngineUnavailable` for settings that can't be used.
    """
    import docker.constants

    if version is None:
        client = _client(docker.constants.MINIMUM_DOCKER_API_VERSION)
        try:
            version = str(client.version(api_version=False)["ApiVersion"])
        finally:
            client.close()
    return _client(version)


def _client(version: str) -> APIClient:
    import docker
    import docker.errors

    host = docker_host()
    try:
        client = docker.APIClient(base_url=host, version=version, tls=_tls(host))
    except (docker.errors.InvalidConfigFile, AttributeError, TypeError, ValueError) as error:
        why = str(error).rstrip(".")
        raise EngineUnavailable(
            f"Docker's configuration {_config_folder() / 'config.json'} can't be read: {why}. "
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
            super().connect()
            assert self.sock is not None
            _sockets.add(self.sock)

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


def _in_forked_child() -> None:
    for sock in list(_sockets):
        sock.close()


os.register_at_fork(after_in_child=_in_forked_child)


def _config_folder() -> Path:
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def _of_context(name: str) -> str:
    folder = _config_folder() / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    try:
        told: Any = json.loads((folder / "meta.json").read_text())
        return str(told["Endpoints"]["docker"]["Host"])
    except (OSError, ValueError, KeyError, TypeError):
        raise EngineUnavailable(
            f"DOCKER_CONTEXT names the context {name!r}, which is not in {_config_folder()}. "
            "Fix: unset DOCKER_CONTEXT, or name one that docker context ls shows"
        ) from None


def _tls(host: str) -> Any:
    """Return the TLS settings for an address, False for none."""
    import docker.tls

    verify = os.environ.get("DOCKER_TLS_VERIFY", "")
    folder = os.environ.get("DOCKER_CERT_PATH", "")
    if not host.startswith(("tcp://", "https://")) or not (verify or folder):
        return False
    place = Path(folder) if folder else _config_folder()
    if missing := [name for name in _FILES if not (place / name).is_file()]:
        variable = "DOCKER_CERT_PATH" if folder else "DOCKER_TLS_VERIFY"
        raise EngineUnavailable(
            f"{variable} asks for TLS with the engine at {host}, and {place} lacks "
            f"{', '.join(missing)}. Fix: set DOCKER_CERT_PATH to the folder that has "
            f"{', '.join(_FILES)}, or unset {variable}"
        )
    return docker.tls.TLSConfig(
        client_cert=(str(place / "cert.pem"), str(place / "key.pem")),
        ca_cert=str(place / "ca.pem"),
        verify=bool(verify),
    )
