"""The address of an endpoint: its label, its port, and the link for a browser."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator, Mapping

FIRST_PORT, PORT_COUNT = 20000, 10000
"""The range of ports to choose from.

It lies below the ports that Linux assigns by itself: net.ipv4.ip_local_port_range begins at 32768.
"""

PORT_ATTEMPTS = 50

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


def label(*names: str) -> str:
    """Join the names that are not empty to a label of lowercase letters, digits and hyphens.

    >>> label("", "Digits", "predict_one")
    'digits-predict-one'
    """
    joined = "-".join(name for name in names if name)
    return re.sub(r"[^a-z0-9]+", "-", joined.lower()).strip("-")[:63] or "web"


def ports(label: str) -> Iterator[int]:
    """Yield the ports to try for a label: always the same ones, and finally 0 for any port."""
    start = zlib.crc32(label.encode())
    for number in range(PORT_ATTEMPTS):
        yield FIRST_PORT + (start + number) % PORT_COUNT
    yield 0


def bind_address(environ: Mapping[str, str] = os.environ) -> str:
    """Return the address to listen on: ``LIFECYCLE_MAGIC_WEB_ADDRESS``, or 127.0.0.1."""
    return environ.get("LIFECYCLE_MAGIC_WEB_ADDRESS", "").strip() or "127.0.0.1"


def allowed_hosts(environ: Mapping[str, str] = os.environ) -> frozenset[str] | None:
    """Return the names that a client may use in its ``Host`` header; None allows all names.

    Other names are refused, because a page on the web can let its own name resolve to 127.0.0.1
    and then read responses that it must not see. ``LIFECYCLE_MAGIC_WEB_HOSTS`` (separated by
    commas) adds names, and ``*`` allows all. On a JupyterHub all names are allowed: no browser
    runs on the kernel's machine, and the name is the hub's.
    """
    added = {one.strip().lower() for one in environ.get("LIFECYCLE_MAGIC_WEB_HOSTS", "").split(",")}
    if "*" in added or "JUPYTERHUB_SERVICE_PREFIX" in environ:
        return None
    return LOOPBACK_HOSTS | (added - {""}) | ({bind_address(environ)} - {"0.0.0.0", "::"})


_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^][:@/?#\\\s,]+)(?::\d*)?", re.IGNORECASE)


def host_of(header: str) -> str:
    """Return the name in a ``Host`` header, without its port; "" if the header has no name."""
    found = _HOST.fullmatch(header)
    return found[1].lower() if found else ""


def link(url: str, port: int, environ: Mapping[str, str] = os.environ) -> str:
    """Return the address for the user's browser, which may run on another machine.

    On a JupyterHub it is the path that jupyter-server-proxy serves, relative to the hub. If
    ``VSCODE_PROXY_URI`` is set (code-server and similar), it is that template with the port.
    Otherwise it is ``url``.
    """
    prefix = environ.get("JUPYTERHUB_SERVICE_PREFIX")
    if prefix:
        return f"{prefix.rstrip('/')}/proxy/{port}/"
    template = environ.get("VSCODE_PROXY_URI", "")
    if "{{port}}" in template:
        return template.replace("{{port}}", str(port))
    return url
