"""A debugger on the frames of an exception, in the container that keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lifecycle_magic.calls.reply import ReplyReader, take_value
from lifecycle_magic.calls.sync import BlockingCall, read_reply
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.threads.sigint import run_forwarding
from lifecycle_magic.wire.frames import Kind
from lifecycle_magic.wire.pickling import dumps

if TYPE_CHECKING:
    from lifecycle_magic.container.container import Container
    from lifecycle_magic.pool.pool import Pool

__all__ = ["debug"]


class _Debugging(BlockingCall):
    """The input of the debugger, which is no call of a method."""

    __slots__ = ()

    kind = Kind.DEBUG
    counts_as_call = False

    def __init__(self, pool: Pool, id: str) -> None:
        super().__init__(pool, "%debug", None, {})
        self.payload, self.buffers = dumps((self.id, id))


def debug(pool: Pool, container: Container, id: str) -> None:
    """Run the debugger on the frames ``id`` that ``container`` keeps, until the user leaves it.

    Raises `InvalidError` if the frames are not kept any more, or if a call runs in the container.
    """
    input = _Debugging(pool, id)
    run_forwarding(input.on_sigint, lambda one: _run(one, container), input)


def _run(input: _Debugging, container: Container) -> Any:
    pool: Any = input.pool
    slot = pool.lease_in(container, input)
    if slot is None:
        raise InvalidError(
            f"{pool.name}: the container runs a call, or its code changes, so nothing can be "
            "debugged there. Fix: wait for that call, and repeat the call that failed"
        )
    reader = ReplyReader(input, slot)
    try:
        try:
            slot.channel.send(input.kind, input.payload)
        except OSError:
            input.unsent = True
        return take_value(read_reply(reader), reader)
    finally:
        pool.release(slot)
