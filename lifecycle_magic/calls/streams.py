"""The input of a generator method, whose items arrive as they are yielded.

The worker sends each item and checks for a STOP in between; the socket's buffer limits how far it
may be ahead. A consumer that stops early sends STOP and does not wait
(`lifecycle_magic.calls.generator_close`). Only the time in which the consumer waits counts for
``timeout`` (`lifecycle_magic.calls.consumer_clock`).
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

from lifecycle_magic.calls.consumer_clock import ConsumerClock
from lifecycle_magic.calls.generator_close import close_generator
from lifecycle_magic.calls.input import Input, interrupt
from lifecycle_magic.calls.prompts import Prompt, ask_or_interrupt, refuse
from lifecycle_magic.calls.reply import LastReply, ReplyReader, Value
from lifecycle_magic.container.slots import Slot
from lifecycle_magic.exception import InvalidError, WireError
from lifecycle_magic.pool.printing import show
from lifecycle_magic.threads.sigint import deferred
from lifecycle_magic.wire.frames import Frame, Kind

if TYPE_CHECKING:
    from lifecycle_magic.pool.pool import Pool

__all__ = ["LazyStream", "Stream", "refuse_sent"]


class _StreamReader(ReplyReader):
    """The meaning of the frames of a generator."""

    __slots__ = ()

    pickled = frozenset({Kind.ITEM})
    values = frozenset({Kind.END})

    def decode(self, frame: Frame) -> Value:
        return Value(None)


class Stream(Input):
    """The input of a generator.

    ``sent``: it runs, or may run. ``over``: its last frame was read. Before the first and after the
    second, its slot is free.
    """

    # No __slots__: together with those of `AwaitedInput` they would not fit into one object.
    sent = False
    over = False
    left = False  # closed before it was over: the rest is read elsewhere
    kind = Kind.STREAM
    make_reader: type[ReplyReader] = _StreamReader
    reader: ReplyReader  # of the current attempt

    def __init__(
        self, pool: Pool, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        super().__init__(pool, method, args, kwargs)
        self.waiting = ConsumerClock(pool)

    def send(self, slot: Slot) -> bool:
        """Begin an attempt. Return whether the input was sent. Raises `WireError` if it is too
        large.
        """
        self.sent = self.over = False
        self.reader = self.make_reader(self, slot)
        if self.interrupts:  # the interrupts came before there was a slot to interrupt
            raise self.not_started_error()
        self.timed_out = self.unsent = False
        self.waiting.reset(self.expire)
        try:
            slot.channel.send(self.kind, self.payload, self.buffers)
        except WireError:
            raise
        except OSError:
            self.unsent = True
        self.sent = True
        return not self.unsent

    def note(self, reply: LastReply | None) -> LastReply | None:
        """Record whether ``reply`` is the last one, and return it."""
        self.over = not (type(reply) is Value and not reply.is_last)
        return reply

    def has_unread_answer(self) -> bool:
        slot = self.slot
        if slot is None or slot.channel.fileno() < 0:
            return False
        readable = select.poll()
        readable.register(slot.channel, select.POLLIN)
        return slot.channel.has_buffered or bool(readable.poll(0))

    # --- the ends --------------------------------------------------------------------------

    @property
    def is_half_read(self) -> bool:
        return self.sent and not self.over and not self.waiting.is_running

    def show(self, stream: str, text: str) -> None:
        """Print the method's output."""
        show(stream, text)

    def ask(self, slot: Slot, prompt: Prompt) -> None:
        if self.left:
            refuse(slot, prompt, "its consumer has left the generator")
            return
        self.waiting.pause()
        try:
            ask_or_interrupt(self, slot, prompt)
        finally:
            self.waiting.start()

    def interrupt_unwanted(self) -> None:
        """Interrupt a generator that still runs after STOP. On the event loop's thread."""
        interrupt(self)

    def close(self) -> None:
        """Release the slot or close the generator. Further calls have no effect."""
        with deferred():
            self.waiting.stop()
            if self.left or self.slot is None:
                return
            if self.over or not self.sent:
                self.pool.release(self.slot)
            else:
                self.left = True
                event_loop, release = self.pool.event_loop, self.pool.release
                close_generator(
                    self,
                    self.slot,
                    event_loop,
                    self.interrupt_unwanted,
                    release,
                    self.show_from_thread,
                )


class LazyStream(Stream):
    """A generator's input that is sent with the first ``next``, which may be long after the
    call.
    """

    copies_buffers = True


def refuse_sent(value: object) -> None:
    """Raise `InvalidError` for a value that the caller sends into a generator."""
    if value is not None:
        raise InvalidError(
            "values can't be sent to a generator in a container, which runs ahead of its reader. "
            "Fix: pass them as arguments, or call a method for each with .remote(...)"
        )
