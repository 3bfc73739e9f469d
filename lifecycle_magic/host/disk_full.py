"""Detection of a full disk, or of no file descriptor left, in any tool's message, and the fix."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator

from lifecycle_magic.exception import EngineError, Error
from lifecycle_magic.wire import descriptors

__all__ = ["DOCKER_FIX", "HOOK_FIX", "STATE_FOLDER_FIX", "explain", "fix_line", "is_full"]

_MESSAGE = re.compile(r"no space left on device|disk quota exceeded|\bENOSPC\b", re.IGNORECASE)

STATE_FOLDER_FIX = "the disk of the state folder is full: free some space, as with %lifecycle prune"
DOCKER_FIX = (
    "the engine's disk is full: free some space, as with %lifecycle prune or docker system prune"
)
HOOK_FIX = (
    "the folder that it writes to is full: free some space, as with %lifecycle prune; the size of "
    "/dev/shm is set by shm_size="
)


def is_full(message: str) -> bool:
    """Return whether a message of a tool or an engine reports a full disk.

    >>> is_full("write /x: no space left on device")
    True
    """
    return _MESSAGE.search(message) is not None


def fix_line(message: str, what: str = STATE_FOLDER_FIX) -> str:
    """Return a line with the fix ``what`` if ``message`` reports a full disk, otherwise ""."""
    return f"\nFix: {what}" if is_full(message) else ""


@contextlib.contextmanager
def explain(doing: str) -> Iterator[None]:
    """Raise `EngineError` with the fix if the block fails for a full disk or a lack of descriptors.

    Other errors pass.
    """
    try:
        yield
    except OSError as error:
        if (explained := descriptors.explain(error)) and not isinstance(error, Error):
            raise EngineError(f"could not {doing}: {explained}") from None
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise EngineError(f"could not {doing}: {error}\nFix: {STATE_FOLDER_FIX}") from None
