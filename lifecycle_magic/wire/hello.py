"""The handshake: a container dials home and proves that it is the one we launched.

Each connection begins with one HELLO frame from the container and one in answer. Both are JSON,
both at most 4 KiB, and nothing else is read before the token was compared: what arrives
from anybody else is refused before it could be unpickled.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any, NamedTuple

from lifecycle_magic.exception import HandshakeError, WireError
from lifecycle_magic.wire.frames import HEADER, INBOX, PROTOCOL, Channel, Kind

MAX_HELLO = 4096
CONTROL = "control"
DATA = "data"
MEMORY = "memory"  # over which descriptors of shared memory pass; Unix sockets only


def python_minor() -> str:
    """This interpreter's, as ``"3.11"``: code objects travel only between equal ones."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


class Boot(NamedTuple):
    """What a container is told before it starts: the content of ``boot.json`` in its run folder.

    ``channels`` is how many data connections it opens; ``grace`` is seconds for its ``exit`` hooks.
    """

    address: str
    token: str
    container: str
    channels: int
    grace: float
    protocol: int = PROTOCOL

    def write(self, path: str) -> None:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(self._asdict(), file)

    @classmethod
    def take(cls, path: str) -> Boot:
        """Read it and remove it: the token is good for one start."""
        with open(path) as file:
            told = json.load(file)
        os.unlink(path)
        return cls(**told)


class Hello(NamedTuple):
    """Who dials: ``role`` is ``control`` or ``data``, ``slot`` numbers the data connections."""

    token: str
    role: str
    slot: int = 0
    protocol: int = PROTOCOL
    python: str = ""


def dial(address: str) -> socket.socket:
    """Connect to ``unix:<path>`` or ``tcp:<host>:<port>``."""
    scheme, _, rest = address.partition(":")
    if scheme == "unix":
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        folder = os.open(os.path.dirname(rest), os.O_RDONLY | os.O_DIRECTORY)
        try:
            # sun_path holds 107 bytes (unix(7)); a path by way of a descriptor is always short.
            short = len(os.fsencode(rest)) <= 107
            sock.connect(rest if short else f"/proc/self/fd/{folder}/{os.path.basename(rest)}")
        except BaseException:
            sock.close()
            raise
        finally:
            os.close(folder)
        return sock
    host, _, port = rest.rpartition(":")
    sock = socket.create_connection((host, int(port)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def introduce(sock: socket.socket, token: str, role: str, slot: int = 0) -> Channel:
    """The container's side. Raises `HandshakeError` with the other side's reason."""
    # Not a byte more than the answer: behind it there may be a descriptor, which reading loses.
    inbox = HEADER.size if role == MEMORY else INBOX
    channel = Channel(sock, MAX_HELLO, inbox)
    hello = Hello(token, role, slot, PROTOCOL, python_minor())
    channel.send(Kind.HELLO, json.dumps(hello._asdict()).encode())
    answer = _read(channel)
    if answer is None or not answer.get("ok"):
        raise HandshakeError((answer or {}).get("why", "the kernel closed the connection"))
    channel.max_frame = Channel(sock).max_frame
    return channel


def admit(sock: socket.socket, token: str) -> tuple[Hello, Channel] | None:
    """The kernel's side: ``(Hello, Channel)`` of a container with the right token, else None.

    A caller with the wrong token is told so and dropped; that is not our container's fault, so
    it raises nothing. One with the right token and another protocol or Python minor raises
    `HandshakeError`.
    """
    import hmac  # loads OpenSSL: 4 ms, which a container that comes up need not spend

    channel = Channel(sock, max_frame=MAX_HELLO)
    try:
        told = _read(channel)
        hello = Hello(**told) if told is not None else None
    except (TypeError, WireError, OSError):
        hello = None
    if hello is None or not hmac.compare_digest(str(hello.token).encode(), token.encode()):
        _refuse(channel, "wrong token: this is not a container that this session launched")
        return None
    if hello.protocol != PROTOCOL:
        why = f"the container speaks protocol {hello.protocol}, the kernel {PROTOCOL}; restart it"
    elif hello.python != python_minor():
        why = (
            f"the image has Python {hello.python}, the kernel Python {python_minor()}: "
            "code can't travel between them. Use an image with "
            f"Python {python_minor()}, such as Image.debian_slim()"
        )
    else:
        channel.send(Kind.HELLO, b'{"ok": true}')
        channel.max_frame = Channel(sock).max_frame
        return hello, channel
    _refuse(channel, why)
    raise HandshakeError(why)


def _read(channel: Channel) -> dict[str, Any] | None:
    frame = channel.receive()
    if frame is None:
        return None
    try:
        told = json.loads(bytes(frame.payload).decode())
    except ValueError:
        told = None
    if frame.kind != Kind.HELLO or frame.buffers or not isinstance(told, dict):
        raise WireError("the connection did not begin with a hello")
    return told


def _refuse(channel: Channel, why: str) -> None:
    try:
        channel.send(Kind.HELLO, json.dumps({"ok": False, "why": why}).encode())
    except OSError:
        pass  # it left before it heard why
    channel.close()
