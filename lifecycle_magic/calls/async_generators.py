"""Generator methods for coroutines, and for code that may use either kind of loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from lifecycle_magic.callers.internal_frames import hidden, strip_all
from lifecycle_magic.calls.detached import AwaitedInput
from lifecycle_magic.calls.generators import stream
from lifecycle_magic.calls.prompts import Prompt, handle
from lifecycle_magic.calls.reply import (
    LastReply,
    Retry,
    Show,
    explain_loss,
    receive,
    settle,
    take_value,
)
from lifecycle_magic.calls.streams import Stream, refuse_sent
from lifecycle_magic.pool.deadlocks import current_task
from lifecycle_magic.threads.futures import await_future
from lifecycle_magic.threads.sigint import deferred

if TYPE_CHECKING:
    from lifecycle_magic.pool.pool import Pool

__all__ = ["AsyncItems", "AsyncStream", "EitherItems"]


class AsyncStream(Stream, AwaitedInput):
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
            if type(reply) is Show:
                self.reader.show(reply, self.show)
            elif type(reply) is Prompt:
                handle(self, self.slot, reply)
            else:
                return reply

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
        refuse_sent(value)
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
