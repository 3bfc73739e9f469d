"""The early end of a generator: it is closed in its container, without making the caller wait.

The frames that are still in transit are read by the session's thread for replies, up to the last
one. Then the slot is free for the next input. Output of the closing generator is shown.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from lifecycle_magic.calls.detached import Unread, lost_if_broken, read_available_reply
from lifecycle_magic.calls.input import Input
from lifecycle_magic.calls.reply import LastReply, Reply, ReplyReader, Value
from lifecycle_magic.calls.sync import read_reply
from lifecycle_magic.container.endings import DISCONNECTED
from lifecycle_magic.container.slots import Slot
from lifecycle_magic.threads.event_loop import EventLoop
from lifecycle_magic.wire.frames import Frame, Kind

__all__ = ["close_generator"]

CLOSE_GRACE_SECONDS = 1.0
"""Seconds that a generator has to reach its next ``yield`` after STOP, before it is interrupted."""


class _DiscardingReader(ReplyReader):
    """The meaning of the frames of a generator whose values are not wanted any more."""

    __slots__ = ()

    def read(self, frame: Frame) -> Reply:
        if frame.kind in (Kind.OUTPUT, Kind.PROMPT):
            return super().read(frame)
        return Value(None, frame.kind not in (Kind.ITEM, Kind.MORE))


def close_generator(
    input: Input,
    slot: Slot,
    event_loop: EventLoop,
    interrupt_unwanted: Callable[[], None],
    release: Callable[[Slot], None],
    show: Callable[[str, str], None],
) -> None:
    """Close the generator that runs in ``slot``, and ``release`` the slot when it is closed.

    ``interrupt_unwanted`` is called on the event loop's thread if that takes longer than
    `CLOSE_GRACE_SECONDS`.
    """
    channel = slot.channel
    replies = event_loop.reply_loop
    slot.reader = None
    hint = event_loop.call_later(CLOSE_GRACE_SECONDS, interrupt_unwanted)
    printed: list[tuple[str, str]] = []
    reader = _DiscardingReader(input, slot)

    def keep(stream: str, text: str) -> None:
        printed.append((stream, text))

    def on_reply(reply: LastReply | None) -> bool:
        """Act on a reply. Return whether it was the last one."""
        if reply is None:
            slot.container.end(DISCONNECTED)
        elif type(reply) is Value and not reply.is_last:
            printed.clear()  # it belongs to an item that is not wanted any more
            return False
        return True

    def on_readable() -> bool:
        """Read the available frames. Return whether more will follow."""
        while not isinstance(reply := read_available_reply(reader, keep), Unread):
            if on_reply(reply):
                replies.unwatch(channel)
                end()
                return False
        if reply is Unread.BLOCKS:
            replies.unwatch(channel)
            name = f"{slot.container.name}-blocking"
            threading.Thread(target=read_on, name=name, daemon=True).start()
        return reply is Unread.LATER

    def read_on() -> None:
        while not on_reply(lost_if_broken(reader, read_reply(reader, keep))):
            pass
        end()

    def end() -> None:
        hint.cancel()
        with contextlib.suppress(Exception):  # of what replaces sys.stdout there
            for stream, text in printed:
                show(stream, text)
        release(slot)

    def begin() -> None:
        if on_readable():
            replies.watch(channel, on_readable)

    try:
        channel.send(Kind.STOP)
    except OSError:
        pass  # it has exited, which the read reports
    replies.call_soon(begin)
