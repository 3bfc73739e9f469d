"""Generator methods: items that arrive as they are yielded.

The worker sends each item and looks for a STOP in between; the socket's buffer is what it can
be ahead. A consumer that leaves early sends STOP and does not wait
(`lifecycle_magic.calling.leaving`). ``timeout`` counts the time in which the consumer waits
(`lifecycle_magic.calling.stopwatch`).
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from lifecycle_magic.calling.attended import Awaited
from lifecycle_magic.calling.calls import answer_of, next_frame, uninterrupted
from lifecycle_magic.calling.leaving import leave
from lifecycle_magic.calling.stopwatch import Stopwatch
from lifecycle_magic.containers.slots import Slot
from lifecycle_magic.exception import WireError
from lifecycle_magic.pools.inputs import Input, Unstarted, interrupt, show
from lifecycle_magic.sigint import deferred
from lifecycle_magic.wire.frames import Frame, Kind
from lifecycle_magic.wire.messages import output

if TYPE_CHECKING:
    from lifecycle_magic.pools.pool import Pool


class _Stream(Input):
    """A generator's input. ``sent``: it runs, or may. ``over``: its last frame was read. Before
    the one and after the other its slot is free.
    """

    # No __slots__: beside those of `Awaited` they would not fit into one object.
    sent = False
    over = False
    left = False  # before it was over: what still comes is read by somebody else
    kind = Kind.STREAM

    def __init__(
        self, pool: Pool, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        super().__init__(pool, method, args, kwargs)
        self.waiting = Stopwatch(pool)

    def send(self, slot: Slot) -> bool:
        """Begin an attempt; whether it went out. Raises `WireError` if it is too large."""
        self.sent = self.over = False
        if self.interrupts:  # they came before there was a slot in which to interrupt it
            raise self.before_it_began()
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

    def read(self, frame: Frame | None) -> Frame | None:
        self.over = frame is None or frame.kind not in (Kind.ITEM, Kind.MORE)
        return frame

    def unread(self) -> bool:
        slot = self.slot
        if slot is None or slot.channel.fileno() < 0:
            return False
        readable = select.poll()
        readable.register(slot.channel, select.POLLIN)
        return slot.channel.buffered or bool(readable.poll(0))

    # --- the ends --------------------------------------------------------------------------

    def show(self, stream: str, text: str) -> None:
        """Print what the method printed."""
        show(stream, text)

    def insist(self) -> None:
        """On the monitor's thread: nobody wants more of it, it was told so, and it still runs."""
        interrupt(self)

    def close(self) -> None:
        """On every way out, whatever the caller does next. A second time it does nothing."""
        with deferred():
            self.waiting.stop()
            if self.left or self.slot is None:
                return
            if self.over or not self.sent:
                self.pool.release(self.slot)
            else:
                self.left = True
                leave(self.slot, self.pool.monitor, self.insist, self.pool.release)


class AsyncStream(_Stream, Awaited):
    """The same, waiting for its slot and for its frames without a thread."""

    async def begin(self) -> Frame | None:
        """Get a slot and send the input, again if its container went first; the first frame."""
        while True:
            with deferred():
                self.pool.submit(self)
            granted = self.granted
            slot = granted.result() if granted.done() else await asyncio.wrap_future(granted)
            with deferred():
                well = self.send(slot)
            frame = await self.frame() if well else self.read(None)
            if frame is None:  # asking how it went takes a moment
                again = await asyncio.to_thread(_unstarted, self, slot, frame)
            else:
                again = _unstarted(self, slot, frame)
            if not again:
                return frame
            self.close()
            self.granted = Future()

    async def frame(self) -> Frame | None:
        """The next frame that is no output; output is shown. None if the connection ended."""
        self.waiting.go()
        try:
            return self.read(await self.next())
        finally:
            self.waiting.pause()

    async def next(self) -> Frame | None:
        """The same, without the clock and whatever else is to be noted."""
        assert self.slot is not None
        channel = self.slot.channel
        while True:
            if not channel.buffered:
                await self.until_readable()
            try:
                with deferred():
                    frame = channel.receive()
                if frame is None or frame.kind != Kind.OUTPUT:
                    return frame
                self.show(*output(frame.payload))
            except WireError as error:
                raise self.slot.container.broke(str(error)) from None
            except OSError:
                return None

    async def until_readable(self) -> None:
        """Wait until something has come."""
        assert self.slot is not None
        channel = self.slot.channel
        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        channel.watch(loop, _resolve, readable)
        try:
            await readable
        finally:
            loop.remove_reader(channel)

    def leave(self) -> None:
        """Nobody wants the rest, nor a slot that it still waits for."""
        with deferred():
            self.pool.forget(self)
            if not self.granted.cancel():  # else whoever grants one gives it back
                self.close()


class _Later(_Stream):
    """One that is sent with the first ``next``, long after the call perhaps."""

    copies = True


def stream(pool: Pool, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Any]:
    """The items that ``method`` yields. It begins with the first ``next``."""
    return _iterate(_Later(pool, method, args, kwargs))


def _iterate(input: _Stream) -> Iterator[Any]:
    try:
        value = _item(input, uninterrupted(input, _begin))
        while not input.over:
            yield value
            value = _item(input, uninterrupted(input, _advance))
    finally:
        try:
            input.close()
        except KeyboardInterrupt:  # it may have come before anything was done
            input.close()
            raise


def _begin(input: _Stream) -> Frame | None:
    while True:
        slot = input.pool.lease(input)
        frame = _advance(input) if input.send(slot) else input.read(None)
        if not _unstarted(input, slot, frame):
            return frame
        input.close()


def _advance(input: _Stream) -> Frame | None:
    assert input.slot is not None
    input.waiting.go()
    try:
        return input.read(next_frame(input.slot))
    finally:
        input.waiting.pause()


def _item(input: Input, frame: Frame | None) -> Any:
    """The item of a frame, or None for the END; raises what ended the generator otherwise."""
    if frame is not None and frame.kind == Kind.END:
        return None
    assert input.slot is not None
    return answer_of(input.slot, input, frame, Kind.ITEM)


def _unstarted(input: Input, slot: Slot, frame: Frame | None) -> bool:
    """Whether the container went, in order, before it began with the input."""
    if frame is None:
        return isinstance(input.lost(slot), Unstarted)
    return frame.kind == Kind.SKIPPED and isinstance(input.stopped(slot, frame), Unstarted)


async def stream_async(
    find: Callable[[], Awaitable[Pool]], method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncIterator[Any]:
    """`stream` for coroutines; ``find`` returns the pool."""
    pool = await find()
    input = AsyncStream(pool, method, args, kwargs)
    try:
        frame = await input.begin()
        while True:
            if frame is not None:
                value = _item(input, frame)
            else:  # asking how it went takes a moment
                value = await asyncio.to_thread(_item, input, frame)
            if input.over:
                return
            yield value
            frame = await input.frame()
    finally:
        input.leave()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
