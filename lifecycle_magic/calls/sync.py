"""Blocking calls, ``.remote()``: the calling thread takes a slot of the pool, writes to the
worker's socket and reads the reply. No other thread is involved.

While that runs on the main thread, SIGINT does not raise. An exception between two bytecodes could
lose a slot, or half a frame. Therefore the handler only asks the container to interrupt the method,
and the reply, which follows soon, ends the wait. If there is none within
`lifecycle_magic.calls.input.INTERRUPT_GRACE_SECONDS`, the container is killed, which ends the wait
too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from lifecycle_magic.calls.input import Input, interrupt
from lifecycle_magic.calls.prompts import Prompt, ask_or_interrupt, handle
from lifecycle_magic.calls.reply import (
    LastReply,
    ReplyReader,
    Retry,
    Show,
    Value,
    explain_loss,
    receive,
    settle,
)
from lifecycle_magic.container.slots import Slot
from lifecycle_magic.errors.remote import blocking_call_error
from lifecycle_magic.exception import RemoteError, WireError
from lifecycle_magic.pool.pool import Pool
from lifecycle_magic.pool.printing import show
from lifecycle_magic.threads.sigint import run_forwarding


class BlockingCall(Input):
    """The input of a call whose thread waits for it, and asks the user what the method asks."""

    __slots__ = ()

    def ask(self, slot: Slot, prompt: Prompt) -> None:
        ask_or_interrupt(self, slot, prompt)


def call(pool: Pool, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call the method in a warm container and return its result, or raise its exception."""
    input = BlockingCall(pool, method, args, kwargs)
    try:
        return run_forwarding(input.on_sigint, _call, input)
    except RemoteError as error:
        raised = blocking_call_error(error)
        if raised is error:
            raise
    raise raised  # here, where no handled exception would become its context


def _call(input: Input) -> Any:
    pool = input.pool
    while True:
        interrupts = input.interrupts  # since the last attempt
        if interrupts:
            raise input.not_started_error()
        slot = pool.lease(input)
        if input.interrupts:  # interrupted while it waited, and granted a slot nevertheless
            pool.event_loop.call_soon(lambda: interrupt(input))
        reader = ReplyReader(input, slot)
        timer = input.begin_attempt()
        try:
            reply = _send_and_wait(reader)
            if type(reply) is Value:
                return reply.value
            if reply is None:
                reply = explain_loss(reader)
            settle(reader, reply)
            if type(reply) is Retry:
                continue
            try:
                raise reply.error
            finally:
                del reply  # otherwise the error would refer to itself
        except BaseException as error:
            delay = input.count_failure(error)
            if delay is None:
                pool.stats.failures += 1
                raise
        finally:
            if timer is not None:
                timer.cancel()
            pool.release(slot)
        input.pause(delay)


def _send_and_wait(reader: ReplyReader) -> LastReply | None:
    """Send the input, and wait as `read_reply` does."""
    input = reader.input
    if input.interrupts:  # the interrupts came before there was a slot to interrupt
        raise input.not_started_error()
    try:
        reader.slot.channel.send(input.kind, input.payload, input.buffers)
    except WireError:
        raise
    except OSError:
        input.unsent = True
        return None
    return read_reply(reader)


def read_reply(reader: ReplyReader, show: Callable[[str, str], None] = show) -> LastReply | None:
    """Block until the next reply that is not output, and show output and prompts. None if the
    connection ended.
    """
    reader.slot.reader = threading.get_ident()
    while True:
        reply = receive(reader)
        if type(reply) is Show:
            reader.show(reply, show)
        elif type(reply) is Prompt:
            handle(reader.input, reader.slot, reply)
        else:
            return reply
