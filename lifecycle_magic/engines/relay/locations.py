"""Engines beyond this machine: their addresses, and the relay that leads there."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from urllib.parse import urlsplit

from lifecycle_magic.engines.docker.address import Fixed, TlsFiles, is_far
from lifecycle_magic.engines.relay import tunnel
from lifecycle_magic.engines.relay.process import RelayProcess, RelaySettings
from lifecycle_magic.exception import EngineError, EngineUnavailable, InvalidError

__all__ = ["FarLocation"]

REMOTE_SOCKET = "/var/run/docker.sock"
"""Where an engine listens on the machine that an ``ssh://`` address names."""

_LONGEST_PARENT = 70
"""Bytes of the path of the folder that gets the folder of a tunnel's socket."""

RETRY_SECONDS = 2.0
"""Seconds for which the error of a tunnel that could not be opened is reported again."""


class FarLocation:
    """The engine at an ``ssh://``, ``tcp://`` or ``unix://`` address, and its relay.

    With ssh the relay owns a tunnel, by which this process reaches the engine too. Raises
    `InvalidError` for an address that can't be used.

    >>> FarLocation(Fixed("ssh://me@box")).shown
    'ssh://me@box'
    """

    def __init__(self, fixed: Fixed) -> None:
        self.shown = fixed.url
        self._fixed = fixed
        self._lock = threading.Lock()
        self._relay: RelayProcess | None = None
        self._path = ""
        self._failed: tuple[float, str] | None = None
        where = _checked(fixed)
        self._is_ssh = where.scheme == "ssh"
        self._where = where

    @property
    def tls(self) -> TlsFiles | None:
        return self._fixed.tls

    @property
    def url(self) -> str:
        """Return where this process connects, and open the tunnel if need be."""
        if not self._is_ssh:
            return self._fixed.url
        self.relay()
        return f"unix://{self._path}"

    def relay(self) -> RelayProcess:
        """Return the relay, started if there is none. Raises `EngineUnavailable`."""
        with self._lock:
            if self._relay is not None and self._relay.is_alive:
                return self._relay
            self._relay = None
            self._remove_folder()
            if self._failed is not None and time.monotonic() < self._failed[0]:
                raise EngineUnavailable(self._failed[1])
            try:
                self._relay = RelayProcess(self._settings())
            except EngineError as error:
                text = f"no Docker engine answers at {self.shown}: {_with_fix(str(error))}"
                self._failed = time.monotonic() + RETRY_SECONDS, text
                raise EngineUnavailable(text) from None
            return self._relay

    def explained(self, why: str) -> str:
        """Return why a request failed, with what ssh has said since the tunnel was opened.

        What is wrong at the other end of a tunnel is known to ssh alone.
        """
        said = tunnel.words(self._path) if self._path else ""
        if "open failed" in said:  # the connection that this process lost was one to the tunnel
            return _with_fix(said)
        return f"{why}. ssh: {said}" if said else why

    def close(self) -> None:
        """End the use of the relay, which exits when its containers have ended."""
        with self._lock:
            relay, self._relay = self._relay, None
            if relay is None or not relay.is_alive:
                self._remove_folder()
            self._path = ""  # a relay that goes on removes its own folder
        if relay is not None:
            relay.close()

    def _remove_folder(self) -> None:
        """Remove what a relay that was killed left of its tunnel."""
        if self._path:
            shutil.rmtree(os.path.dirname(self._path), ignore_errors=True)
            self._path = ""

    def _settings(self) -> RelaySettings:
        where = self._where
        if where.scheme == "unix":
            return RelaySettings(path=where.path)
        if not self._is_ssh:
            tls = self._fixed.tls
            files = (str(tls.authority), str(tls.certificate), str(tls.key)) if tls else None
            return RelaySettings(
                host=where.hostname or "",
                port=where.port or (2376 if tls else 2375),
                tls=files,
                verify=tls is None or tls.verify,
            )
        self._path = f"{_short_folder()}/docker.sock"
        host = where.hostname or ""
        target = f"{where.username}@{host}" if where.username else host
        remote = where.path if where.path not in ("", "/") else REMOTE_SOCKET
        command = tunnel.ssh_command(target, where.port, remote, self._path)
        return RelaySettings(path=self._path, ssh=tuple(command))


def _short_folder() -> str:
    """Make a folder for a socket, whose path has 107 bytes at most: a state folder may lie deep."""
    usual = tempfile.gettempdir()
    for parent in (usual, os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp"):
        if parent and len(os.fsencode(parent)) <= _LONGEST_PARENT:
            with contextlib.suppress(OSError):
                return tempfile.mkdtemp(prefix="lm-ssh-", dir=parent)
    raise EngineError(
        f"no folder for a socket can be made: {usual} is too long a path, or can't be written to. "
        "Fix: set TMPDIR to a folder with a shorter path"
    )


def _checked(fixed: Fixed):  # type: ignore[no-untyped-def]
    try:
        where = urlsplit(fixed.url)
        _ = where.port
    except ValueError as error:
        raise InvalidError(f"engine={fixed.url!r}: {error}") from None
    if where.scheme == "unix":
        return where
    if not where.hostname or where.scheme not in ("ssh", "tcp", "https"):
        raise InvalidError(
            f"engine={fixed.url!r} names no machine. Fix: write ssh://user@host, or "
            "tcp://host:2376 with the certificates in DOCKER_CERT_PATH"
        )
    if where.password:
        raise InvalidError(
            f"engine: the address of {where.hostname} holds a password, and ssh asks for none "
            "here. Fix: use a key (ssh-copy-id), and write ssh://user@host"
        )
    if where.hostname.startswith("-") or (where.username or "").startswith("-"):
        raise InvalidError(f"engine={fixed.url!r}: a name can't begin with a hyphen")
    if where.scheme != "ssh" and fixed.tls is None and is_far(fixed.url):
        raise InvalidError(
            f"engine={fixed.url!r}: without TLS, others on the way can read and change what is "
            "sent there, secrets included. Fix: set DOCKER_CERT_PATH to the folder with ca.pem, "
            "cert.pem and key.pem, or write ssh://user@host"
        )
    return where


_FIXES = (
    ("Host key verification failed", "connect once by hand with ssh, and check the host's key"),
    ("No ED25519 host key is known", "connect once by hand with ssh, and check the host's key"),
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "ask who runs the host whether its key changed"),
    ("Permission denied", "add your public key there (ssh-copy-id), or start ssh-agent"),
    ("Could not resolve hostname", "check the host's name, or add it to ~/.ssh/config"),
    ("Connection refused", "check the port, and that an ssh server runs there"),
    ("timed out", "check that the machine is on and reachable"),
    ("No route to host", "check that the machine is on and reachable"),
    ("did not connect within", "check that the machine is on and reachable"),
    ("ssh can't be run", "install the OpenSSH client"),
    (
        "open failed",
        "ssh connects, and no engine's socket opens there: check that the engine runs, that the "
        "user may use it (sudo usermod -aG docker USER there, and log in again), that its socket "
        f"is {REMOTE_SOCKET} or has its path in the address, as in "
        "ssh://me@gpu-box/run/user/1000/docker.sock, and that sshd_config there has no "
        "AllowStreamLocalForwarding no",
    ),
)


def _with_fix(words: str) -> str:
    """Return what ssh said, with the fix where it is known."""
    for text, fix in _FIXES:
        if text.lower() in words.lower():
            return f"{words.rstrip('.')}. Fix: {fix}"
    return words
