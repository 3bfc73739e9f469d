"""Frames that are passed on from one channel to another one without copying their buffers.

The segment itself goes on: its descriptor is passed to the third process once, as that of an own
segment, and frames then name it there. Until that process frees it or moves it back, no code of
this process reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lifecycle_magic.wire.frame_header import MOVED, PASSED, pack_places
from lifecycle_magic.wire.frames import PACK_BYTES, Channel
from lifecycle_magic.wire.leases import Lease

__all__ = ["newest_lease", "pass_on"]


def newest_lease(channel: Channel) -> Lease | None:
    """Return the lease of the last frame of a channel, while anything views its segment."""
    return channel.shared.leases.newest if channel.shared is not None else None


def pass_on(
    channel: Channel,
    kind: int,
    payload: Any,
    buffers: Sequence[Any],
    source: Lease | None,
    tag: int = 0,
) -> bool:
    """Send a frame with the segment that has its ``buffers``.

    ``source`` is the lease of that segment, which came over another channel. Return False, with
    nothing sent, if the segment can't go there. Otherwise the buffers may not be read any more.
    Raises `OSError` as `Channel.send` does.
    """
    shared = channel.shared
    if source is None or shared is None or not buffers or len(payload) >= PACK_BYTES:
        return False
    segment, places = source.segment, source.places(buffers)
    is_back = shared.theirs.get(segment.number) is segment  # it goes back to its sender
    if places is None or (not is_back and segment.descriptor < 0):
        return False

    def make() -> list[Any] | None:
        name = segment.name if is_back else shared.pass_on(segment)
        if name is None or not source.give_away():
            return None
        flags = MOVED if is_back else PASSED
        return [pack_places(kind, flags, tag, len(payload), name, places), payload]

    return channel.send_made(make)
