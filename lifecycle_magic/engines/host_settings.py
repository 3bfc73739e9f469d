"""Settings of this machine that ordinary code relies on: time zone, umask, proxies, debugger."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from lifecycle_magic.wire.host_settings import Zone

PROXIES = tuple(
    name
    for low in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for name in (low, low.upper())
)

_ZONES = Path("/usr/share/zoneinfo")
_LOCALTIME = Path("/etc/localtime")
_LARGEST_ZONE = 1 << 16  # bytes; the largest of the tz database has under 4 KiB


def proxies(host: Mapping[str, str]) -> dict[str, str]:
    """Return the proxy variables of the environment ``host``; a value may hold a password.

    >>> proxies({"https_proxy": "http://proxy:3128", "TOKEN": "s3cret"})
    {'https_proxy': 'http://proxy:3128'}
    """
    return {name: host[name] for name in PROXIES if host.get(name)}


def breakpoints(host: Mapping[str, str]) -> dict[str, str]:
    """Return what the environment ``host`` says about ``breakpoint()``.

    >>> breakpoints({"PYTHONBREAKPOINT": "0", "TOKEN": "s3cret"})
    {'PYTHONBREAKPOINT': '0'}
    """
    return {name: host[name] for name in ("PYTHONBREAKPOINT",) if name in host}


def on_loopback(url: str) -> bool:
    """Return whether a proxy's URL leads to the machine that uses it.

    >>> on_loopback("http://me:secret@127.0.0.1:3128"), on_loopback("proxy.example.org:3128")
    (True, False)
    """
    try:
        name = urlsplit(url if "://" in url else f"http://{url}").hostname or ""
    except ValueError:
        return False
    return name in ("localhost", "::1") or re.fullmatch(r"127(\.\d+){3}", name) is not None


def has_password(url: str) -> bool:
    """Return whether a URL names a user.

    >>> has_password("http://me:secret@proxy:3128"), has_password("http://proxy:3128")
    (True, False)
    """
    return "@" in url


def umask() -> int | None:
    """Return this process's umask, or None where it can't be read without changing it."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(r"^Umask:\s*([0-7]+)", status, re.MULTILINE)  # Linux 4.7
    return int(found.group(1), 8) if found else None


def zone(environ: Mapping[str, str], chosen: str | None = None) -> Zone | None:
    """Return the time zone of a process with this environment, or None if there is no knowing.

    ``chosen`` is a ``TZ`` to look for instead of the environment's.
    """
    given = environ.get("TZ") if chosen is None else chosen
    if given is None:
        return _of_machine()
    path = Path(given.removeprefix(":"))
    if not path.name:
        return Zone(given, b"", True)
    data = _read_tzif(path if path.is_absolute() else _ZONES / path)
    if data is None:
        return Zone(given, b"", True)  # a POSIX rule, such as CET-1CEST
    return Zone("" if path.is_absolute() else str(path), data, True)


def _of_machine() -> Zone | None:
    data = _read_tzif(_LOCALTIME)
    if data is None:
        return None
    _, found, name = os.path.realpath(_LOCALTIME).partition("/zoneinfo/")
    if not found:
        name = _name_in(Path("/etc/timezone"), data)
    return Zone(name, data, False)


def _name_in(file: Path, data: bytes) -> str:
    """Return the name of a zone that stands in ``file``, if it is that of ``data``."""
    try:
        name = file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return name if name and _read_tzif(_ZONES / name) == data else ""


def _read_tzif(path: Path) -> bytes | None:
    """Return the content of a TZif file, or None if it is none."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_ZONE)
    except (OSError, ValueError):
        return None
    return data if data.startswith(b"TZif") else None
