"""One connection of a container or of another process, for the calls that a thread there waits for.

They come one after the other. So one thread does everything: it reads a call, sends it to a warm
container, waits for the answer and sends that back. No other thread of this process is involved,
as in `lifecycle_magic.calls.sync`. What this can't serve, such as a call for which no container is
ready, goes the way of `lifecycle_magic.services.concurrent_connection`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from lifecycle_magic.calls import circles
from lifecycle_magic.calls.forwarded import ForwardedInput, ForwardingReader, NumberedCall
from lifecycle_magic.calls.prompts import NO_CELL, Prompt, refuse
from lifecycle_magic.calls.reply import LastReply, Raise, Value, explain_loss, settle
from lifecycle_magic.calls.sync import read_reply
from lifecycle_magic.exception import Error, WireError
from lifecycle_magic.services.call_sources import CallSource, SessionCalls
from lifecycle_magic.services.caller_watch import CallerWatch
from lifecycle_magic.services.concurrent_connection import ConcurrentConnection
from lifecycle_magic.services.running_calls import checked_method
from lifecycle_magic.wire.frames import Channel, Frame, Kind
from lifecycle_magic.wire.nested import REMOTE, Ask, read_ask
from lifecycle_magic.wire.passing_on import newest_lease, pass_on
from lifecycle_magic.wire.pickling import loads

if TYPE_CHECKING:
    from contextvars import Context

    from lifecycle_magic.calls.input import Input
    from lifecycle_magic.container.slots import Slot
    from lifecycle_magic.pool.pool import Pool
    from lifecycle_magic.spec.class_spec import ClassSpec
    from lifecycle_magic.wire.leases import Lease

__all__ = ["SerialConnection"]


class SerialConnection(ConcurrentConnection):
    """An admitted connection of the role SERIAL: see `lifecycle_magic.wire.nested`.

    ``callers`` notices when the caller closes the connection while its call runs.
    """

    _make_call = NumberedCall

    def __init__(
        self, channel: Channel, source: CallSource, session: SessionCalls, callers: CallerWatch
    ) -> None:
        super().__init__(channel, source, session)
        self._callers = callers
        self._current: ForwardedInput | None = None
        self._is_left = False
        self._ask: Ask | None = None
        self._pool: Pool | None = None  # that of `_ask`
        self._checked: ClassSpec | None = None  # the declaration that has the method of `_ask`
        self._is_changed = False  # CHANGED is to be sent
        self._thread = 0
        self._pending = 0  # frames that the writing thread has not sent yet
        self._pending_lock = threading.Lock()
        self._lease: Lease | None = None  # of the segment that the last value is in
        if channel.shared is not None:
            channel.shared.keeps_descriptors = True

    def serve(self) -> None:
        self._thread = threading.get_ident()
        self._callers.add(self._channel.fileno(), self._on_left)
        super().serve()

    def _on_end(self) -> None:
        self._callers.remove(self._channel.fileno())

    def notify(self, kind: int) -> None:
        """Send CHANGED before the next answer. Another connection of the caller gets LEAVING."""
        if kind == Kind.CHANGED:
            self._is_changed = True

    # --- frames ----------------------------------------------------------------------------

    def _on_frame(self, frame: Frame) -> None:
        data, buffers = frame.payload, frame.buffers
        if frame.kind == Kind.ASK:
            self._ask, self._pool, self._checked = read_ask(frame.payload), None, None
            if self._ask.form != REMOTE or not buffers:
                raise WireError("a call that a serial connection does not carry")
            data, *buffers = buffers
        elif frame.kind == Kind.PROMPT:
            self._prompts.refuse(frame.tag, NO_CELL)
            return
        elif frame.kind != Kind.AGAIN or self._ask is None:
            raise WireError(f"a frame of kind {frame.kind} from a caller")
        if not self._call_now(self._ask, frame.tag, data, buffers):
            self._start(self._ask._replace(number=frame.tag), bytes(data), list(buffers))

    def _send(self, kind: int, number: int, parts: tuple[Any, ...]) -> None:
        if self._is_changed:
            self._is_changed = False
            self._channel.send(Kind.CHANGED)
        payload, *buffers = parts
        self._channel.send(kind, payload, buffers, number)

    def _enqueue(self, kind: int, number: int, parts: tuple[Any, ...]) -> None:
        """Send a frame, on this connection's own thread at once unless others wait for that."""
        if threading.get_ident() == self._thread and not self._pending:
            try:
                self._send(kind, number, parts)
            except WireError as error:
                self._fail(number, error)
            return
        with self._pending_lock:
            self._pending += 1
        super()._enqueue(kind, number, parts)

    def _on_sent(self) -> None:
        with self._pending_lock:
            self._pending -= 1

    @staticmethod
    def _values(data: Any, buffers: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        _, _, args, kwargs = loads(data, buffers=buffers)
        return args, kwargs

    # --- calls -----------------------------------------------------------------------------

    def _call_now(self, ask: Ask, number: int, data: Any, buffers: Any) -> bool:
        """Run a call if a slot is free. Return False, with nothing done, if it must wait."""
        pool = self._pool
        if pool is None or pool.stale:  # another thread may have found it, or found it again
            pool = self._pool = self._pools.get((ask.key, ask.arguments))
        if (
            pool is None
            or pool.stale
            or pool.retries is not None
            or not self._source.serves(ask.key)
        ):
            return False
        if pool.declared is not self._checked:
            try:
                if checked_method(ask, pool).batched:
                    return False
            except Error as error:
                self._fail(number, error)
                return True
            self._checked = pool.declared
        input = ForwardedInput(pool, ask.method, data, buffers, self, number)
        slot = pool.lease_idle(input)
        if slot is None:
            return False
        reply = self._run(pool, input, slot, self._source.caller(ask.slot))
        lease, self._lease = self._lease, None
        if type(reply) is Value:
            data, buffers = reply.value
            if self._pending or self._is_changed:
                self._enqueue(Kind.RESULT, number, (data, *buffers))
            elif lease is None or not pass_on(
                self._channel, Kind.RESULT, data, buffers, lease, number
            ):
                self._channel.send(Kind.RESULT, data, buffers, number)
        elif type(reply) is Raise:
            pool.stats.failures += 1
            self._fail(number, reply.error)
        else:  # another container takes it
            # Copies: the container may have had the segment itself.
            copies = [bytes(one) for one in buffers]
            self._start(ask._replace(number=number), bytes(data), copies)
        return True

    def context_of(self, input: ForwardedInput) -> Context:
        """Return the context in which the output of a call is shown."""
        assert self._ask is not None
        return self._origin(self._ask._replace(number=input.number)).context

    def pass_prompt_on(self, input: ForwardedInput, slot: Slot, prompt: Prompt) -> None:
        """Ask where the call was made. There, its thread waits for the answer to this call."""
        assert self._ask is not None
        if self._source.prompt_answers is not None and self._source.caller(self._ask.slot) is None:
            refuse(slot, prompt)
        else:
            self._prompts.pass_on(input.number, input, slot, prompt)

    def _on_left(self) -> None:
        """Interrupt the call that runs: its caller has gone. On the event loop's thread."""
        self._is_left = True
        input = self._current
        if input is not None:
            input.on_sigint()

    def _run(
        self, pool: Pool, input: ForwardedInput, slot: Slot, caller: Input | None
    ) -> LastReply:
        reader = ForwardingReader(input, slot)
        if caller is not None:
            circles.add_running(caller, input)
        timer = input.begin_attempt()
        self._current = input
        if self._is_left:  # before there was an input to interrupt
            input.on_sigint()
        try:
            reply: LastReply | None = None
            try:
                self._send_input(input, slot)
            except OSError:
                input.unsent = True
            else:
                reply = read_reply(reader, input.show_from_thread)
            if reply is None:
                reply = explain_loss(reader)
            if type(reply) is not Value:
                settle(reader, reply)
            elif reply.value.buffers:
                self._lease = newest_lease(slot.channel)
            return reply
        finally:
            self._current = None
            if timer is not None:
                timer.cancel()
            if caller is not None:  # before the slot runs an input that may wait for the caller
                circles.remove(caller, input)
            pool.release(slot)

    def _send_input(self, input: ForwardedInput, slot: Slot) -> None:
        """Send a call to its container. Raises `OSError` if the connection has ended."""
        channel, buffers = slot.channel, input.buffers
        if not buffers:
            channel.send(input.kind, input.payload)
        elif not pass_on(channel, input.kind, input.payload, buffers, newest_lease(self._channel)):
            channel.send(input.kind, input.payload, buffers)
        input.buffers = []
