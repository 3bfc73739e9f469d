"""Temporary names of folders under construction; each name identifies the process that creates it.

A folder is created under such a name next to its destination and renamed when it is complete, so a
folder at the destination is always complete. A process that is killed leaves its temporary folder
behind. Other processes see by the name that its creator is dead, and remove it.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

from lifecycle_magic.host.owner import Owner

__all__ = ["abandoned", "temporary_name"]

_PREFIXES = (".making-", ".part-")
_UNKNOWN_CREATOR_SECONDS = 3600.0
"""How long a folder is kept if its name does not identify the process that creates it."""

_count = itertools.count()


def temporary_name() -> str:
    """Return a new name for a folder that this process is about to create."""
    me = Owner.me()
    return f"{_PREFIXES[0]}{me.pid}-{me.started}-{me.boot[:8]}-{next(_count)}"


def abandoned(folder: Path) -> Iterator[Path]:
    """Yield every temporary folder in ``folder`` whose creator has exited."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(_PREFIXES) and not _is_being_made(entry):
            yield Path(entry.path)


def _is_being_made(entry: os.DirEntry[str]) -> bool:
    words = entry.name.split("-")
    if len(words) == 5 and words[1].isdigit() and words[2]:
        me = Owner.me()
        return words[3] == me.boot[:8] and Owner(int(words[1]), words[2], me.boot).alive()
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime < _UNKNOWN_CREATOR_SECONDS
    except OSError:
        return True  # it was renamed or removed meanwhile
