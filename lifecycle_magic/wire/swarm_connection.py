"""The connection that a container on a swarm makes to its kernel.

The source of this module is also a part of the command of such a container, which can import
nothing of this package yet: it needs the standard library only.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from typing import Any

__all__ = ["KERNEL_NAME", "TOKEN_BYTES", "connect_to_kernel", "read_from"]

KERNEL_NAME = "kernel.lifecycle-magic"
"""The name in the kernel's certificate: its address may change, and is looked up by nobody."""

TOKEN_BYTES = 64
"""Bytes of a container's token, the first that are sent."""

DIAL_SECONDS = 15.0
"""Seconds in which the kernel has to answer: a machine's network may be up after its containers."""


def connect_to_kernel(secret: str, folder: str) -> ssl.SSLSocket:
    """Return the connection to the kernel, with the token sent. Raises `OSError`.

    ``secret`` is the path of the container's secret, a JSON object; ``folder`` is in memory, and
    gets the key for as long as it takes to read it.
    """
    with open(secret, "rb") as file:
        given: dict[str, Any] = json.load(file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=given["authority"])
    path = os.path.join(folder, "identity.pem")
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as text:
            text.write(given["identity"])
        context.load_cert_chain(path)
    finally:
        os.unlink(path)
    deadline = time.monotonic() + DIAL_SECONDS
    while True:
        try:
            plain = socket.create_connection((given["host"], given["port"]), 8.0)
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise OSError(
                    f"{given['host']}:{given['port']}: {error}. Fix: set LIFECYCLE_MAGIC_ADDRESS "
                    "to an address of the kernel's machine that this node reaches"
                ) from None
            time.sleep(0.2)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock = context.wrap_socket(plain, server_hostname="kernel.lifecycle-magic")
    sock.sendall(given["token"].encode())
    sock.settimeout(60.0)
    return sock


def read_from(sock: ssl.SSLSocket, size: int) -> bytes:
    """Return ``size`` bytes of a connection. Raises EOFError if it ends before."""
    parts = []
    while size:
        data = sock.recv(min(size, 1 << 16))
        if not data:
            raise EOFError("the kernel refused this container, or has exited")
        parts.append(data)
        size -= len(data)
    return b"".join(parts)
