"""A full disk, said as such: whoever says so, in whatever words, the mend is the same."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator

from lifecycle_magic.exception import EngineError

__all__ = ["DOCKER", "HERE", "HOOK", "explained", "is_full", "mend"]

_SAID = re.compile(r"no space left on device|disk quota exceeded|\bENOSPC\b", re.IGNORECASE)

HERE = "the disk of the state folder is full: free some room, as with %lifecycle prune"
DOCKER = (
    "the engine's disk is full: free some room, as with %lifecycle prune or docker system prune"
)
HOOK = (
    "what it writes to is full: free some room, as with %lifecycle prune; /dev/shm is as large as "
    "shm_size= says"
)


def is_full(said: str) -> bool:
    """Whether a message of a tool or of an engine says that a disk is full.

    >>> is_full("write /x: no space left on device")
    True
    """
    return _SAID.search(said) is not None


def mend(said: str, what: str = HERE) -> str:
    """A line with what to do if ``said`` tells of a full disk, which is ``what``; else nothing."""
    return f"\nMend: {what}" if is_full(said) else ""


@contextlib.contextmanager
def explained(doing: str) -> Iterator[None]:
    """Raise a full disk below the state root in the block as `EngineError`; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise EngineError(f"could not {doing}: {error}\nMend: {HERE}") from None
