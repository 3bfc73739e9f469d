"""Generator methods: items that arrive as they are yielded.

The worker sends each item and looks for a STOP in between; the socket's buffer is what it can
be ahead. A consumer that leaves early sends STOP and does not wait: the monitor reads what is
still on its way, and the slot is free again when the generator has been closed there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from lifecycle_magic import calls
from lifecycle_magic.attended import Awaited
from lifecycle_magic.calls import answer_of, uninterrupted
from lifecycle_magic.container import Slot
from lifecycle_magic.exception import WireError
from lifecycle_magic.inputs import Input, Unstarted, interrupt, show
from lifecycle_magic.monitor import Timer
from lifecycle_magic.wire.frames import Frame, Kind
from lifecycle_magic.wire.messages import output

if TYPE_CHECKING:
    from lifecycle_magic.pool import Pool

HINT = 1.0
"""Seconds for a generator to come to its next ``yield`` after STOP, before it is interrupted."""


class _Stream(Input):
    """A generator's input. ``over``: its last frame was read, so the slot is free."""

    # No __slots__: beside those of `Awaited` they would not fit into one object.
    over = False
    kind = Kind.STREAM
    timer: Timer | None = None

    def read(self, frame: Frame | None) -> Frame | None:
        self.over = frame is None or frame.kind not in (Kind.ITEM, Kind.MORE)
        return frame

    def show(self, stream: str, text: str) -> None:
        """Print what the method printed."""
        show(stream, text)

    def insist(self) -> None:
        """On the monitor's thread: it was told that nobody wants more, and still runs."""
        interrupt(self)

    def close(self) -> None:
        """On every way out, whatever the caller does next."""
        if self.timer is not None:
            self.timer.cancel()
        if self.slot is None:
            return
        if self.over:
            self.pool.release(self.slot)
        else:
            _leave(self, self.slot)


class AsyncStream(_Stream, Awaited):
    """The same, waiting for its slot and for its frames without a thread."""

    async def begin(self) -> Frame | None:
        """Get a slot and send the input, again if its container went first; the first frame."""
        while True:
            self.pool.submit(self)
            granted = self.granted
            slot = granted.result() if granted.done() else await asyncio.wrap_future(granted)
            self.timer = self.watch_time()
            try:
                slot.channel.send(self.kind, self.payload, self.buffers)
            except OSError:
                self.unsent = True
            frame = self.read(await self.next())
            if frame is None:  # asking how it went takes a moment
                again = await asyncio.to_thread(_unstarted, self, slot, frame)
            else:
                again = _unstarted(self, slot, frame)
            if not again:
                return frame
            self.close()
            self.granted = Future()

    async def next(self) -> Frame | None:
        """The next frame that is no output; output is shown. None if the connection ended."""
        assert self.slot is not None
        channel = self.slot.channel
        loop = asyncio.get_running_loop()
        while True:
            if not channel.buffered:
                readable = loop.create_future()
                channel.watch(loop, _resolve, readable)
                try:
                    await readable
                finally:
                    loop.remove_reader(channel)
            try:
                frame = channel.receive()
                if frame is None or frame.kind != Kind.OUTPUT:
                    return frame
                self.show(*output(frame.payload))
            except WireError as error:
                raise self.slot.container.broke(str(error)) from None
            except OSError:
                return None

    def leave(self) -> None:
        """Nobody wants the rest, nor a slot that it still waits for."""
        self.pool.forget(self)
        self.granted.cancel()
        self.close()


def stream(pool: Pool, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Any]:
    """The items that ``method`` yields. It begins with the first ``next``."""
    return _iterate(_Stream(pool, method, args, kwargs))


def _iterate(input: _Stream) -> Iterator[Any]:
    try:
        frame = uninterrupted(input, _begin)
        while True:
            value = _item(input, frame)
            if input.over:
                return
            yield value
            frame = uninterrupted(input, _advance)
    finally:
        input.close()


def _begin(input: _Stream) -> Frame | None:
    while True:
        slot = input.pool.lease(input)
        input.timer = input.watch_time()
        frame = input.read(calls.send_and_wait(slot, input))
        if not _unstarted(input, slot, frame):
            return frame
        input.close()


def _advance(input: _Stream) -> Frame | None:
    assert input.slot is not None
    return input.read(calls.next_frame(input.slot))


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
            value = _item(input, frame)
            if input.over:
                return
            yield value
            frame = input.read(await input.next())
    finally:
        input.leave()


def _leave(input: _Stream, slot: Slot) -> None:
    """Nobody wants more items: have the generator closed there, and free the slot when it is."""
    monitor = input.pool.monitor
    channel = slot.channel
    slot.reader = None
    hint = monitor.later(HINT, input.insist)

    def on_readable() -> None:
        while True:
            try:
                frame = channel.receive()
            except OSError:
                frame = None
            if frame is None:
                slot.container.hung_up()
                break
            if frame.kind not in (Kind.ITEM, Kind.OUTPUT, Kind.MORE):
                break
            if not channel.buffered:
                return
        hint.cancel()
        monitor.unwatch(channel)
        input.pool.release(slot)

    def begin() -> None:
        if channel.buffered:
            on_readable()
        if input.slot is not None:
            monitor.watch(channel, on_readable)

    try:
        channel.send(Kind.STOP)
    except OSError:
        pass  # it is gone; reading says so
    monitor.soon(begin)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
