"""The handshake: a container connects to the kernel and proves that this session launched it.

Each connection begins with one HELLO frame from the container and one in answer. Both are JSON of
at most 4 KiB. The kernel reads nothing else before it has compared the token, so data from any
other process is refused before it could be unpickled.

The token of a start is valid once. Calls may need several connections, so their token is a key that
is never sent: the hello has its id, and the answer is a challenge for which the caller returns a
proof (`lifecycle_magic.wire.proofs`). A second answer follows. If that says so, both ends share
memory, and the caller's next byte has the descriptor for it (`lifecycle_magic.wire.shared`).
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any, NamedTuple

from lifecycle_magic.exception import HandshakeError, WireError
from lifecycle_magic.wire.frame_header import HEADER, MAX_FRAME_BYTES, PROTOCOL
from lifecycle_magic.wire.frames import INBOX_BYTES, Channel, Kind
from lifecycle_magic.wire.proofs import key_id, proof
from lifecycle_magic.wire.python_versions import enable_sources, is_supported, python_minor
from lifecycle_magic.wire.shared import accept_offer, can_share, offer

MAX_HELLO_BYTES = 4096
CONTROL = "control"
DATA = "data"
MEMORY = "memory"  # over which descriptors of shared memory pass; Unix sockets only
CALLS = "calls"  # calls from inside the container; opened when the first one is made
NAMED = "named"  # calls by name, from another process of the same user
SERIAL = "serial"  # calls by name that block: one after the other
_ROLES = (CONTROL, DATA, MEMORY, CALLS, NAMED, SERIAL)
_PROVEN_ROLES = (CALLS, NAMED, SERIAL)
WRONG_TOKEN = "wrong token: this is not a container that this session launched"


class BootFile(NamedTuple):
    """The content of ``boot.json`` in a container's run folder, which the container reads at its
    start.

    ``channels`` is the number of data connections that it opens, ``grace`` the seconds for its
    ``exit`` hooks.
    """

    address: str
    token: str
    container: str
    channels: int
    grace: float
    protocol: int = PROTOCOL

    def write(self, path: str) -> None:
        """Write the values as JSON to a new file at ``path`` that only this user can read."""
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(self._asdict(), file)

    @classmethod
    def read_and_delete(cls, path: str) -> BootFile:
        """Read the file and delete it: the token is valid for one start."""
        with open(path) as file:
            fields = json.load(file)
        os.unlink(path)
        return cls(**fields)


class Hello(NamedTuple):
    """The first message of a connection: ``role`` is ``control`` or ``data``, ``slot`` numbers the
    data connections. For calls, ``token`` is the id of the key.
    """

    token: str
    role: str
    slot: int = 0
    protocol: int = PROTOCOL
    python: str = ""


def dial(address: str) -> socket.socket:
    """Connect to ``unix:<path>``, ``relay:<path>`` or ``tcp:<host>:<port>``; return the socket."""
    scheme, _, rest = address.partition(":")
    if scheme in ("unix", "relay"):
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


def introduce(
    sock: socket.socket, token: str, role: str, slot: int = 0, *, exact: bool = False
) -> Channel:
    """Do the container's side of the handshake and return the channel.

    With ``exact`` the channel has read nothing but the answer: another process goes on with the
    socket. Raises `HandshakeError` with the reason that the kernel gives.
    """
    # Read not a byte beyond the answer: a descriptor may follow it, which reading would lose.
    inbox = HEADER.size if role == MEMORY or exact else INBOX_BYTES
    channel = Channel(sock, MAX_HELLO_BYTES, inbox)
    is_proven = role in _PROVEN_ROLES
    hello = Hello(key_id(token) if is_proven else token, role, slot, PROTOCOL, python_minor())
    _write(channel, hello._asdict())
    answer = _read(channel)
    if is_proven and answer is not None and "challenge" in answer:
        _write(channel, {"proof": proof(token, role, str(answer["challenge"]))})
        answer = _read(channel)
    if answer is None or not answer.get("ok"):
        raise HandshakeError(str((answer or {}).get("why", "the kernel closed the connection")))
    if answer.get("python") != python_minor():
        enable_sources()
    if answer.get("memory"):
        channel.shared = offer(sock)
    channel.max_frame = Channel(sock).max_frame
    return channel


def admit_channel(
    channel: Channel, token: str, *, any_python: bool = False
) -> tuple[Hello, Channel] | None:
    """Do the kernel's side of the handshake on a channel, which accepts no frame larger than
    `MAX_HELLO_BYTES` and may have read a part of the hello already.

    Return ``(Hello, Channel)`` for a container with the right token, otherwise None. A process with
    the wrong token gets the reason and is disconnected. That is not the container's fault, so
    nothing is raised. The right token with another protocol raises `HandshakeError`, and so does
    another Python minor, unless ``any_python`` says that code was packed for every supported one.
    """
    hello = read_hello(channel)
    return admit_hello(channel, hello, token, any_python=any_python) if hello is not None else None


def read_hello(channel: Channel) -> Hello | None:
    """Return the hello that a connection begins with. Refuse the connection if there is none."""
    try:
        fields = _read(channel)
        hello = _checked_hello(fields) if fields is not None else None
        if hello is not None:
            str(hello.token).encode()
    except Exception:  # any process can send anything: endless nested lists, half a character
        hello = None
    if hello is None:
        refuse(channel, WRONG_TOKEN)
    return hello


def admit_hello(
    channel: Channel,
    hello: Hello,
    token: str,
    *,
    any_python: bool = False,
    is_key: bool = False,
    shares: bool = False,
) -> tuple[Hello, Channel] | None:
    """Do what `admit_channel` does, once the hello was read.

    ``is_key``: the connection is for calls. ``shares``: memory is shared over it.
    """
    if is_key != (hello.role in _PROVEN_ROLES) or not _knows(channel, hello, token):
        refuse(channel, WRONG_TOKEN)
        return None
    if hello.protocol != PROTOCOL:
        why = (
            f"the container speaks protocol {hello.protocol}, the kernel {PROTOCOL}. "
            "Fix: restart the kernel"
        )
    elif not is_supported(hello.python):
        why = (
            f"the image has Python {hello.python}, and a class needs Python 3.10 to 3.14. "
            "Fix: use another image, such as Image.debian_slim()"
        )
    elif hello.python != python_minor() and not any_python:
        why = (
            f"the image has Python {hello.python}, although it was declared with Python "
            f"{python_minor()}: a step replaced its python3. Fix: declare it, as in "
            f"Image.debian_slim(python_version={hello.python!r}), or remove that step"
        )
    else:
        _welcome(channel, shares=shares)
        return hello, channel
    refuse(channel, why)
    raise HandshakeError(why)


def admit_named(channel: Channel, hello: Hello, token: str) -> bool:
    """Do the session's side of the handshake with another process that calls by name.

    Return whether it may call. Another protocol or Python minor is refused like a wrong token, and
    the caller gets the reason.
    """
    if hello.role not in (NAMED, SERIAL) or not _knows(channel, hello, token):
        refuse(channel, "wrong token: it is not the one in the session's folder")
    elif (hello.protocol, hello.python) != (PROTOCOL, python_minor()):
        refuse(
            channel,
            f"the caller has Python {hello.python} and speaks protocol {hello.protocol}, the "
            f"session has Python {python_minor()} and speaks protocol {PROTOCOL}",
        )
    else:
        _welcome(channel, shares=can_share())
        return True
    return False


def _welcome(channel: Channel, *, shares: bool) -> None:
    """Tell the other end that it is admitted, and share memory with it if both can."""
    _write(channel, {"ok": True, "python": python_minor(), "memory": shares})
    if shares:
        channel.shared = accept_offer(channel.sock)
    channel.max_frame = MAX_FRAME_BYTES


def _knows(channel: Channel, hello: Hello, token: str) -> bool:
    """Return whether the caller has the token, or proves that it knows the key."""
    import hmac  # loads OpenSSL: 4 ms, which a starting container need not spend
    import secrets

    is_proven = hello.role in _PROVEN_ROLES
    expected = key_id(token) if is_proven else token
    if not hmac.compare_digest(str(hello.token).encode(), expected.encode()):
        return False
    if not is_proven:
        return True
    challenge = secrets.token_urlsafe(24)
    _write(channel, {"challenge": challenge})
    try:
        fields = _read(channel) or {}
        given = str(fields.get("proof")).encode()
    except Exception:  # any process can send anything
        return False
    return hmac.compare_digest(given, proof(token, hello.role, challenge).encode())


def _checked_hello(fields: dict[str, Any]) -> Hello:
    """Return the hello. Raises TypeError for fields that no container sends."""
    hello = Hello(**fields)
    if hello.role not in _ROLES or type(hello.slot) is not int or hello.slot < 0:
        raise TypeError("an unknown role, or a slot that is not valid")
    return hello


def _write(channel: Channel, fields: dict[str, Any]) -> None:
    channel.send(Kind.HELLO, json.dumps(fields).encode())


def _read(channel: Channel) -> dict[str, Any] | None:
    frame = channel.receive()
    if frame is None:
        return None
    try:
        fields = json.loads(bytes(frame.payload).decode())
    except (ValueError, RecursionError):
        fields = None
    if frame.kind != Kind.HELLO or frame.buffers or not isinstance(fields, dict):
        raise WireError("the connection did not begin with a hello")
    return fields


def refuse(channel: Channel, why: str) -> None:
    """Close a connection after sending the reason."""
    try:
        _write(channel, {"ok": False, "why": why})
    except OSError:
        pass  # the connection is closed already
    channel.close()
