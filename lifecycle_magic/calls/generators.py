"""Generator methods, whose items arrive as they are yielded.

The worker sends each item and checks for a STOP in between; the socket's buffer limits how far it
may be ahead. A consumer that stops early sends STOP and does not wait
(`lifecycle_magic.calls.generator_close`). Only the time in which the consumer waits counts for
``timeout`` (`lifecycle_magic.calls.consumer_clock`).
"""

from __future__ import annotations

import asyncio
import select
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from lifecycle_magic.callers.internal_frames import hidden, strip_all
from lifecycle_magic.calls.consumer_clock import ConsumerClock
from lifecycle_magic.calls.detached import AwaitedInput
from lifecycle_magic.calls.generator_close import close_generator
from lifecycle_magic.calls.input import Input, interrupt
from lifecycle_magic.calls.reply import (
    LastReply,
    ReplyReader,
    Retry,
    Show,
    Value,
    explain_loss,
    receive,
    settle,
    take_value,
)
from lifecycle_magic.calls.sync import read_reply
from lifecycle_magic.container.slots import Slot
from lifecycle_magic.errors.remote import as_raised
from lifecycle_magic.exception import InvalidError, RemoteError, WireError
from lifecycle_magic.pool.deadlocks import current_task
from lifecycle_magic.pool.printing import show
from lifecycle_magic.threads.futures import await_future
from lifecycle_magic.threads.sigint import deferred, run_forwarding
from lifecycle_magic.wire.frames import Frame, Kind

if TYPE_CHECKING:
    from lifecycle_magic.pool.pool import Pool


class StreamReader(ReplyReader):
    """The meaning of the frames of a generator."""

    __slots__ = ()

    pickled = frozenset({Kind.ITEM})
    values = frozenset({Kind.END})

    def decode(self, frame: Frame) -> Value:
        return Value(None)


class _Stream(Input):
    """The input of a generator.

    ``sent``: it runs, or may run. ``over``: its last frame was read. Before the first and after the
    second, its slot is free.
    """

    # No __slots__: together with those of `AwaitedInput` they would not fit into one object.
    sent = False
    over = False
    left = False  # closed before it was over: the rest is read elsewhere
    kind = Kind.STREAM
    make_reader: type[ReplyReader] = StreamReader
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


class AsyncStream(_Stream, AwaitedInput):
    """A generator's input that waits for its slot and its frames without a thread."""

    async def begin(self) -> LastReply:
        """Get a slot, send the input and return the first reply.

        If the container exits before it began, try another one.
        """
        while True:
            with deferred():
                self.pool.deadlocks.check_wait(self.where, awaits=True)
                self.pool.submit(self)
            lease = self.lease
            slot = lease.result() if lease.done() else await await_future(lease)
            with deferred():
                well = self.send(slot)
            reply = await self.reply() if well else self.note(None)
            if reply is None:  # finding the cause takes a moment
                reply = await asyncio.to_thread(explain_loss, self.reader)
            if type(reply) is not Retry:
                return reply
            settle(self.reader, reply)
            self.close()
            self.lease = Future()

    async def reply(self) -> LastReply | None:
        """Return the next reply that is not output, and show output. None if the connection
        ended.
        """
        self.waiting.start()
        try:
            return self.note(await self.next())
        finally:
            self.waiting.pause()

    async def explained_reply(self) -> LastReply:
        """Do what `reply` does, and explain why the connection ended if it did."""
        reply = await self.reply()
        # Finding the cause takes a moment, and the event loop must not wait.
        return reply if reply is not None else await asyncio.to_thread(explain_loss, self.reader)

    async def next(self) -> LastReply | None:
        """Receive the next reply that is not output, without the clock and other bookkeeping."""
        assert self.slot is not None
        self.slot.reader = threading.get_ident()
        self.slot.task = current_task()
        while True:
            if not self.slot.channel.has_buffered:
                await self.wait_until_readable()
            with deferred():
                reply = receive(self.reader)
            if type(reply) is not Show:
                return reply
            self.show(*reply)

    async def wait_until_readable(self) -> None:
        """Wait until the connection has data."""
        assert self.slot is not None
        channel = self.slot.channel
        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        channel.watch(loop, _resolve, readable)
        try:
            await readable
        finally:
            loop.remove_reader(channel)

    def close_early(self) -> None:
        """Stop early: close the generator, and withdraw a request for a slot that is still
        waiting.
        """
        with deferred():
            self.pool.withdraw(self)
            if not self.lease.cancel():  # otherwise the code that grants a slot releases it
                self.close()


class LaterStream(_Stream):
    """A generator's input that is sent with the first ``next``, which may be long after the
    call.
    """

    copies_buffers = True


def stream(
    pool: Pool, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Generator[Any, None, None]:
    """Return an iterator over the items of ``method``, which begins with the first ``next``."""
    return items_of(LaterStream(pool, method, args, kwargs))


def items_of(input: LaterStream) -> Generator[Any, None, None]:
    """Return an iterator over the items of an input that was not sent yet."""
    return _iterate(input)


def _iterate(input: _Stream) -> Generator[Any, None, None]:
    with hidden:
        raised = None
        try:
            value = take_value(run_forwarding(input.on_sigint, _begin, input), input.reader)
            while not input.over:
                _refuse_sent((yield value))
                value = take_value(run_forwarding(input.on_sigint, _advance, input), input.reader)
        except RemoteError as error:
            raised = as_raised(error)
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


def _refuse_sent(value: object) -> None:
    """Raise `InvalidError` for a value that the caller sends into a generator."""
    if value is not None:
        raise InvalidError(
            "values can't be sent to a generator in a container, which runs ahead of its reader. "
            "Fix: pass them as arguments, or call a method for each with .remote(...)"
        )


def _begin(input: _Stream) -> LastReply:
    while True:
        slot = input.pool.lease(input)
        reply = _advance(input) if input.send(slot) else input.note(None)
        if reply is None:
            reply = explain_loss(input.reader)
        if type(reply) is not Retry:
            return reply
        settle(input.reader, reply)
        input.close()


def _advance(input: _Stream) -> LastReply | None:
    assert input.slot is not None
    input.slot.task = current_task()
    input.waiting.start()
    try:
        return input.note(read_reply(input.reader))
    finally:
        input.waiting.pause()


class AsyncItems:
    """An asynchronous iterator over a generator method's items. ``find`` returns the pool.

    Not an asynchronous generator: Python closes a dropped one with the help of its event loop. That
    loop may be busy with a call that waits for the generator's own slot.
    """

    def __init__(
        self,
        find: Callable[[], Awaitable[Pool]],
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._find = find
        self._call = (method, args, kwargs)
        self._input: AsyncStream | None = None
        self._ended = False
        self._awaited = False

    def __aiter__(self) -> AsyncItems:
        return self

    async def __anext__(self) -> Any:
        if self._awaited:
            raise RuntimeError("another coroutine waits for the next item already")
        if self._ended:
            raise StopAsyncIteration
        self._awaited = True
        try:
            return await self._next()
        except BaseException as error:
            self._end()
            strip_all(error)
            raise
        finally:
            self._awaited = False

    async def _next(self) -> Any:
        if self._input is None:
            self._input = AsyncStream(await self._find(), *self._call)
            value = take_value(await self._input.begin(), self._input.reader)
        else:
            value = take_value(await self._input.explained_reply(), self._input.reader)
        if self._input.over:
            raise StopAsyncIteration
        return value

    async def asend(self, value: Any) -> Any:
        """Return the next item. Raises `InvalidError` for a value other than None."""
        _refuse_sent(value)
        return await self.__anext__()

    async def aclose(self) -> None:
        """Close the generator in its container, without waiting for it."""
        self._end()

    def _end(self) -> None:
        self._ended = True
        if self._input is not None:
            self._input.close_early()

    def __del__(self) -> None:
        # Possibly from the garbage collector, at any moment: take no lock.
        input = self._input
        if input is not None and not self._ended:
            if input.slot is not None:
                input.slot.reader = None  # code that waits for the slot from now on will get it
            input.pool.event_loop.call_soon(input.close_early)


class EitherItems:
    """The items of an ``async def`` generator method, for a ``for`` or for an ``async for``."""

    def __init__(
        self, pool: Pool, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._call = (pool, method, args, kwargs)
        self._items: Generator[Any, None, None] | None = None
        self._async_items: AsyncItems | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._items is None:
            self._items = stream(*self._call)
        with hidden:
            return next(self._items)

    def __aiter__(self) -> AsyncItems:
        if self._async_items is None:
            self._async_items = AsyncItems(self._find, *self._call[1:])
        return self._async_items

    def __anext__(self) -> Awaitable[Any]:
        return self.__aiter__().__anext__()

    async def _find(self) -> Pool:
        return self._call[0]

    def close(self) -> None:
        """Close the generator in its container."""
        if self._items is not None:
            self._items.close()
        if self._async_items is not None:
            self._async_items._end()

    async def aclose(self) -> None:
        """Close the generator in its container, for coroutines."""
        self.close()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
