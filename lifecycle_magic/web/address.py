"""Where an endpoint is found: its label, the port that follows from it, the link for a browser."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator, Mapping

FIRST, PORTS = 20000, 10000
"""Below what Linux hands out by itself: net.ipv4.ip_local_port_range begins at 32768."""

TRIES = 50

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


def label(*names: str) -> str:
    """Small letters, digits and hyphens, of the names that are not empty.

    >>> label("", "Digits", "predict_one")
    'digits-predict-one'
    """
    joined = "-".join(name for name in names if name)
    return re.sub(r"[^a-z0-9]+", "-", joined.lower()).strip("-")[:63] or "web"


def ports(label: str) -> Iterator[int]:
    """Ports to try for a label: the same ones every time, and at last any."""
    start = zlib.crc32(label.encode())
    for number in range(TRIES):
        yield FIRST + (start + number) % PORTS
    yield 0


def bind_address(environ: Mapping[str, str] = os.environ) -> str:
    """The address to listen on: 127.0.0.1, unless ``LIFECYCLE_MAGIC_WEB_ADDRESS`` says another."""
    return environ.get("LIFECYCLE_MAGIC_WEB_ADDRESS", "").strip() or "127.0.0.1"


def allowed_hosts(environ: Mapping[str, str] = os.environ) -> frozenset[str] | None:
    """The names by which a client may call this server in its ``Host`` header; None: any.

    Others are refused, because a page on the web can have its own name resolve to 127.0.0.1 and
    then read what it is not meant to. ``LIFECYCLE_MAGIC_WEB_HOSTS`` (separated by commas) adds
    names, ``*`` stands for all. On a JupyterHub, where no browser runs beside the kernel and the
    name is the hub's, all are allowed.
    """
    told = {one.strip().lower() for one in environ.get("LIFECYCLE_MAGIC_WEB_HOSTS", "").split(",")}
    if "*" in told or "JUPYTERHUB_SERVICE_PREFIX" in environ:
        return None
    return LOOPBACK | (told - {""}) | ({bind_address(environ)} - {"0.0.0.0", "::"})


def host_of(header: str) -> str:
    """The name in a ``Host`` header, without its port."""
    if header.startswith("["):
        return header.partition("]")[0].lower() + "]"
    return header.partition(":")[0].lower()


def link(url: str, port: int, environ: Mapping[str, str] = os.environ) -> str:
    """The address for the user's browser, which may run elsewhere.

    Under JupyterHub it is the path that jupyter-server-proxy serves, relative to the hub; where
    ``VSCODE_PROXY_URI`` is set (code-server and the like), what that says; else ``url``.
    """
    prefix = environ.get("JUPYTERHUB_SERVICE_PREFIX")
    if prefix:
        return f"{prefix.rstrip('/')}/proxy/{port}/"
    template = environ.get("VSCODE_PROXY_URI", "")
    if "{{port}}" in template:
        return template.replace("{{port}}", str(port))
    return url
