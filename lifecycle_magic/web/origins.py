"""Rules for requests from web pages, by their ``Origin`` and ``Sec-Fetch-*`` headers.

A browser sends requests of any page to any address; for simple requests and WebSockets it does not
ask the server first. These headers name the page. Other clients send neither header and pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from lifecycle_magic.web.address import host_of

__all__ = ["is_foreign"]


def is_foreign(
    method: str,
    headers: Iterable[tuple[bytes, bytes]],
    hosts: Collection[str] | None,
    cors: Collection[str],
) -> bool:
    """Return whether a page of another site sends this request without being allowed to.

    ``hosts`` are the names of this server, None for any; ``cors`` are origins that are allowed.
    A link that the user follows is always allowed: it opens the page and runs nothing else.
    """
    found = {
        name: value.decode("latin-1")
        for name, value in headers
        if name in (b"origin", b"host") or name.startswith(b"sec-fetch-")
    }
    origin = found.get(b"origin")
    if origin is not None:
        return not _is_allowed(origin, found.get(b"host", ""), hosts, cors)
    if found.get(b"sec-fetch-site") not in ("cross-site", "same-site"):
        return False
    is_link = (
        method in ("GET", "HEAD")
        and found.get(b"sec-fetch-mode") == "navigate"
        and found.get(b"sec-fetch-dest") == "document"
        and found.get(b"sec-fetch-user") == "?1"
    )
    return not is_link


def _is_allowed(
    origin: str, host: str, hosts: Collection[str] | None, cors: Collection[str]
) -> bool:
    if "*" in cors or origin in cors:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return False  # "null": a sandboxed frame, a file
    name = host_of(parts.netloc)
    return name == host_of(host) if hosts is None else name in hosts
