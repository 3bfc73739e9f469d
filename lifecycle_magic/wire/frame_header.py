"""The layout of a frame: a header of 16 bytes, a pickle, and the buffers outside the pickle.

    magic "LM" | kind u8 | flags u8 | tag u16 | buffers u16 | payload length u64
    | buffer lengths u64 ... | payload | buffers

If the buffers are in shared memory, the name of their segment precedes the payload and replaces
them; with `MOVED` and `PASSED`, the place of each buffer follows the name. The tag of an answer
says which call it answers (see `wire.frames.tag`), so that an answer to another call is detected.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

PROTOCOL = 10
"""Version of everything in this package. Both sides must have the same version."""

HEADER = struct.Struct("<2sBBHHQ")
MAGIC = b"LM"
SHARED = 1  # the buffers are in a segment, which is named before the payload
PACKED = 2  # the payload is in the segment as well, after the buffers
MOVED = 4  # the segment is the receiver's own; the places of the buffers follow its name
PASSED = SHARED | MOVED  # the segment is of a third process; the places follow its name

MAX_FRAME_BYTES = 16 << 30
"""Maximum bytes of a frame, including buffers. More is a bug or an attack, not a payload."""

MAX_BUFFERS = 60_000


def pack_numbers(numbers: Sequence[int]) -> bytes:
    """Return numbers as they stand in a frame."""
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def pack_places(
    kind: int, flags: int, tag: int, payload: int, name: bytes, places: Sequence[tuple[int, int]]
) -> bytes:
    """Return the start of a frame whose buffers are at these places of a named segment.

    ``payload`` is the size of the payload in bytes, which follows.
    """
    starts, sizes = zip(*places, strict=True)
    head = HEADER.pack(MAGIC, kind, flags, tag, len(places), payload)
    return head + pack_numbers(sizes) + name + pack_numbers(starts)
