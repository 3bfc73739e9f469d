"""Generator methods for code that blocks: an iterator over their items.

For coroutines see `lifecycle_magic.calls.async_generators`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from lifecycle_magic.callers.internal_frames import hidden
from lifecycle_magic.calls.reply import LastReply, Retry, explain_loss, settle, take_value
from lifecycle_magic.calls.streams import LazyStream, Stream, refuse_sent
from lifecycle_magic.calls.sync import read_reply
from lifecycle_magic.errors.remote import blocking_call_error
from lifecycle_magic.exception import RemoteError
from lifecycle_magic.pool.deadlocks import current_task
from lifecycle_magic.threads.sigint import run_forwarding

if TYPE_CHECKING:
    from lifecycle_magic.pool.pool import Pool

__all__ = ["items_of", "stream"]


def stream(
    pool: Pool, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Generator[Any, None, None]:
    """Return an iterator over the items of ``method``, which begins with the first ``next``."""
    return items_of(LazyStream(pool, method, args, kwargs))


def items_of(input: Stream) -> Generator[Any, None, None]:
    """Yield the items of an input that was not sent yet."""
    with hidden:
        raised = None
        try:
            value = take_value(run_forwarding(input.on_sigint, _begin, input), input.reader)
            while not input.over:
                refuse_sent((yield value))
                value = take_value(run_forwarding(input.on_sigint, _advance, input), input.reader)
        except RemoteError as error:
            raised = blocking_call_error(error)
            if raised is error:
                raise
        finally:
            try:
                input.close()
            except KeyboardInterrupt:  # it may have come before anything was done
                input.close()
                raise
        if raised is not None:
            raise raised


def _begin(input: Stream) -> LastReply:
    while True:
        slot = input.pool.lease(input)
        reply = _advance(input) if input.send(slot) else input.note(None)
        if reply is None:
            reply = explain_loss(input.reader)
        if type(reply) is not Retry:
            return reply
        settle(input.reader, reply)
        input.close()


def _advance(input: Stream) -> LastReply | None:
    assert input.slot is not None
    input.slot.task = current_task()
    input.waiting.start()
    try:
        return input.note(read_reply(input.reader))
    finally:
        input.waiting.pause()
