"""The memory for parts of frames that arrive, and the error of frames that are too large."""

from __future__ import annotations

import mmap

from lifecycle_magic.exception import WireError
from lifecycle_magic.wire.frame_header import MAX_BUFFERS

__all__ = ["memory", "too_large"]

LAZY_PAGES_BYTES = 1 << 20
"""Size in bytes from which a part is mapped, so that the system adds its pages when they are
written. A header alone then claims address space, not memory. ``bytearray(size)`` writes zeros to
all pages first and holds the interpreter's lock meanwhile: 1.5 GB took seconds, and 100 MB arrive
in two thirds of the time without it.
"""


def memory(size: int) -> bytearray | mmap.mmap:
    """Return memory for a part of this size. Raises `WireError` if there is not enough."""
    if size < LAZY_PAGES_BYTES:
        return bytearray(size)
    try:
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        raise WireError(f"a part of {size} bytes does not fit into memory") from None


def too_large(size: int, limit: int, buffers: int = 0) -> str:
    """Return the error of a frame with more bytes than ``limit``, or with too many buffers."""
    if buffers > MAX_BUFFERS:
        return f"a frame of {buffers} buffers; at most {MAX_BUFFERS} are allowed"
    return f"a frame of {size} bytes; at most {limit} are allowed"
