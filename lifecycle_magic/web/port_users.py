"""Other users of this machine that listen on a port."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

__all__ = ["foreign_listener"]

_LISTEN = "0A"  # tcp(7): the state of a listening socket in /proc/net/tcp
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def foreign_listener(port: int) -> str | None:
    """Return the name of another user who listens on a port; None if there is no such user."""
    for table in _TABLES:
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, _, _, _, uid, *_ = line.split()
            is_here = state == _LISTEN and int(local.rpartition(":")[2], 16) == port
            if is_here and int(uid) != os.getuid():
                return _name(int(uid))
    return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
