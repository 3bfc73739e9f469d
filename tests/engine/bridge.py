"""The address of this machine that containers of the Docker engine reach."""

from __future__ import annotations

import contextlib
import ipaddress

import docker


def address() -> str:
    """The address of this machine on the engine's bridge."""
    with contextlib.closing(docker.from_env()) as client:
        pools = client.api.inspect_network("bridge")["IPAM"]["Config"]
    # An engine that has just made its bridge does not tell; it takes the first address.
    found = [pool.get("Gateway") or _first(pool["Subnet"]) for pool in pools]
    return str(found[0])


def _first(subnet: str) -> str:
    return str(next(ipaddress.ip_network(subnet).hosts()))
