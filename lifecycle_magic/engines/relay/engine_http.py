"""The few requests that a relay makes to a Docker engine, with the standard library alone."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import struct
from dataclasses import dataclass
from typing import Any

__all__ = ["Attached", "EngineAddress", "RequestError", "attach", "request"]

CONNECT_SECONDS = 8.0
ANSWER_SECONDS = 60.0

MAX_HEAD_BYTES = 1 << 16
"""Bytes of an answer's head."""

_OUT = 1  # the stream of a frame that is standard output; 2 is standard error
_FRAME = struct.Struct("!BxxxI")


class RequestError(Exception):
    """The engine could not be asked, or answered with an error: ``status``, 0 for none."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class EngineAddress:
    """Where an engine listens: a Unix socket's ``path``, or ``host`` and ``port``.

    ``tls`` are the paths of the authority's certificate, the client's certificate and its key;
    ``verify`` checks the engine's certificate.
    """

    path: str = ""
    host: str = ""
    port: int = 0
    tls: tuple[str, str, str] | None = None
    verify: bool = True

    def connect(self) -> socket.socket:
        """Return a connection. Raises `OSError`."""
        if self.path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(CONNECT_SECONDS)
                sock.connect(self.path)
            except BaseException:
                sock.close()
                raise
            return sock
        plain = socket.create_connection((self.host, self.port), CONNECT_SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self.tls is None:
            return plain
        try:
            authority, certificate, key = self.tls
            context = ssl.create_default_context(cafile=authority)
            if not self.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            context.load_cert_chain(certificate, key)
            return context.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


class _Connection(http.client.HTTPConnection):
    def __init__(self, address: EngineAddress, timeout: float) -> None:
        super().__init__("docker")
        self._address = address
        self._seconds = timeout

    def connect(self) -> None:
        self.sock = self._address.connect()
        self.sock.settimeout(self._seconds)


def request(
    address: EngineAddress, method: str, path: str, *, timeout: float = ANSWER_SECONDS
) -> Any:
    """Return the JSON of the engine's answer, None for an empty one. Raises `RequestError`."""
    connection = _Connection(address, timeout)
    try:
        connection.request(method, path, headers={"Content-Length": "0"})
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise RequestError(str(error) or type(error).__name__) from None
    finally:
        connection.close()
    if answer.status >= 300 and answer.status != 304:
        raise RequestError(_message(body) or answer.reason, answer.status)
    try:
        return json.loads(body) if body.strip() else None
    except ValueError:
        return None


def attach(address: EngineAddress, container: str) -> Attached:
    """Return the streams of a container, before or while it runs. Raises `RequestError`."""
    path = f"/containers/{container}/attach?stream=1&stdin=1&stdout=1&stderr=1"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: docker\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n"
        "Content-Length: 0\r\n\r\n"
    )
    try:
        sock = address.connect()
    except OSError as error:
        raise RequestError(str(error)) from None
    try:
        sock.settimeout(ANSWER_SECONDS)
        sock.sendall(head.encode())
        data = b""
        while b"\r\n\r\n" not in data and len(data) < MAX_HEAD_BYTES:
            if not (more := sock.recv(4096)):
                break
            data += more
        first, _, rest = data.partition(b"\r\n\r\n")
        words = first.split(b" ", 2)
        status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
        if status not in (101, 200):
            raise RequestError(_message(rest) or first.decode(errors="replace"), status)
        sock.setblocking(False)
        return Attached(sock, rest)
    except OSError as error:
        sock.close()
        raise RequestError(str(error)) from None
    except BaseException:
        sock.close()
        raise


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip()[:500]


class Attached:
    """The streams of one container, as a `lifecycle_magic.wire.multiplexer.Stream`.

    What it prints to standard error is kept in ``errors``, the last 8 KiB.
    """

    def __init__(self, sock: socket.socket, rest: bytes) -> None:
        self.reader = self.writer = sock.fileno()
        self.errors = b""
        self._sock = sock
        self._data = bytearray(rest)
        self._left = 0  # bytes of the current frame that have not arrived
        self._kind = 0

    def read(self) -> bytes | None:
        """Return what standard output has now; None for nothing, empty at the end."""
        while True:
            if found := self._take():
                return found
            try:
                data = self._sock.recv(1 << 18)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return None
            except ssl.SSLEOFError:
                return b""
            if not data:
                return b""
            self._data += data

    def _take(self) -> bytes:
        """Return the standard output in what arrived, without the engine's frames."""
        out = bytearray()
        at = 0
        while at < len(self._data):
            if not self._left:
                if len(self._data) - at < _FRAME.size:
                    break
                self._kind, self._left = _FRAME.unpack_from(self._data, at)
                at += _FRAME.size
                continue
            part = self._data[at : at + self._left]
            at += len(part)
            self._left -= len(part)
            if self._kind == _OUT:
                out += part
            else:
                self.errors = (self.errors + part)[-8192:]
        del self._data[:at]
        return bytes(out)

    def write(self, data: memoryview) -> int:
        """Send a part of ``data`` to standard input, and return its size."""
        try:
            # What TLS did not take at once has to be given to it again, as it was: no larger piece
            # than a record.
            return self._sock.send(data[: 1 << 14])
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0

    def close(self) -> None:
        """Close the connection, which ends the container's standard input."""
        self._sock.close()
