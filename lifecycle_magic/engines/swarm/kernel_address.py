"""The address at which the containers of a swarm reach this kernel."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from lifecycle_magic.exception import EngineError

__all__ = ["KernelAddress", "kernel_address"]

VARIABLE = "LIFECYCLE_MAGIC_ADDRESS"
_FIX = (
    f"Fix: set {VARIABLE} to the address of this machine that the swarm's nodes reach, as in "
    f"{VARIABLE}=10.0.0.5, or {VARIABLE}=10.0.0.5:7000 for one port of a firewall"
)


@dataclass(frozen=True)
class KernelAddress:
    """The address that containers connect to, and where the kernel listens.

    ``listen`` is empty for every address of this machine, and ``port`` 0 for any free port.
    """

    host: str
    port: int
    listen: str


def kernel_address(url: str, node: str) -> KernelAddress:
    """Return the address: that of ``LIFECYCLE_MAGIC_ADDRESS``, otherwise of the route to a manager.

    ``url`` is where the manager's engine answers, ``node`` the address that it has in the swarm.
    Raises `EngineError` where there is none.
    """
    if given := os.environ.get(VARIABLE, "").strip():
        return _given(given)
    where = urlsplit(url)
    target = where.hostname if where.scheme in ("tcp", "https") and where.hostname else node
    found = _source_to(target)
    if found is None or ipaddress.ip_address(found).is_loopback:
        reason = (
            f"the route to {target} begins at {found}" if found else f"no route leads to {target}"
        )
        raise EngineError(
            f"no address of this machine is known that the swarm's nodes reach: {reason}. {_FIX}"
        )
    return KernelAddress(found, 0, found)


def _given(text: str) -> KernelAddress:
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\s]+))(?::(\d{1,5}))?", text)
    if match is None and ":" in text:
        with contextlib.suppress(ValueError):
            ipaddress.IPv6Address(text)
            return KernelAddress(text, 0, _own(text))
    if match is None or int(match[3] or 0) > 65535:
        raise EngineError(f"{VARIABLE}={text!r} is no address. {_FIX}")
    host = match[1] or match[2]
    return KernelAddress(host, int(match[3] or 0), _own(host))


def _own(host: str) -> str:
    """Return ``host`` as an address if it is this machine's, otherwise an empty string.

    Behind a router that forwards a port, the address is the router's.
    """
    with contextlib.suppress(OSError):
        for family, *_, address in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
            with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as sock:
                sock.bind((address[0], 0))
                return str(address[0])
    return ""


def _source_to(target: str) -> str | None:
    """Return the address from which this machine's packets to ``target`` come."""
    try:
        for family, *_, address in socket.getaddrinfo(target, 9, type=socket.SOCK_DGRAM):
            with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect(address)  # of UDP: nothing is sent
                return str(sock.getsockname()[0]).partition("%")[0]
    except OSError:
        pass
    return None
