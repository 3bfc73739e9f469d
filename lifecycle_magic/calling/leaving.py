"""Leaving a generator before its end: it is closed in its container, and nobody waits for that.

What is still on its way is read by the session's thread for replies, up to the last frame. Then
the slot is free for the next input.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from lifecycle_magic.containers.slots import Slot
from lifecycle_magic.monitor import Monitor
from lifecycle_magic.wire.frames import Kind

__all__ = ["leave"]

HINT = 1.0
"""Seconds for a generator to come to its next ``yield`` after STOP, before it is interrupted."""


def leave(
    slot: Slot, monitor: Monitor, insist: Callable[[], None], release: Callable[[Slot], None]
) -> None:
    """Have what runs in ``slot`` closed, and ``release`` the slot when it is.

    ``insist`` is called on the monitor's thread if that takes longer than `HINT`.
    """
    channel = slot.channel
    replies = monitor.replies
    slot.reader = None
    hint = monitor.later(HINT, insist)

    def read() -> bool:
        """Read one frame; whether it was the last."""
        try:
            frame = channel.receive()
        except OSError:
            frame = None
        if frame is None:
            slot.container.hung_up()
        return frame is None or frame.kind not in (Kind.ITEM, Kind.OUTPUT, Kind.MORE)

    def on_readable() -> bool:
        """Read what is there; whether more will come."""
        while whole := channel.whole():
            if read():
                replies.unwatch(channel)
                end()
                return False
        if whole is None:  # too large for a thread that must not wait
            replies.unwatch(channel)
            name = f"{slot.container.name}-aside"
            threading.Thread(target=read_on, name=name, daemon=True).start()
        return whole is not None

    def read_on() -> None:
        while not read():
            pass
        end()

    def end() -> None:
        hint.cancel()
        release(slot)

    def begin() -> None:
        if on_readable():
            replies.watch(channel, on_readable)

    try:
        channel.send(Kind.STOP)
    except OSError:
        pass  # it is gone; reading says so
    replies.soon(begin)
