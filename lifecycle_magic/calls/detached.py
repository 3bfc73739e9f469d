"""Non-blocking calls: ``spawn``, ``async def`` methods and ``.aio``.

Their replies are read by the loop that watches the socket: the session's thread for replies, or
asyncio's own. Neither may block, so large data is sent and read by a thread of its own.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextvars import Context
from typing import Any, Protocol, TypeVar

from lifecycle_magic.callers.prompt_queue import PromptQueue
from lifecycle_magic.calls.input import Input, interrupt
from lifecycle_magic.calls.prompts import Prompt, ask_or_interrupt, handle, refuse
from lifecycle_magic.calls.reply import (
    LastReply,
    Raise,
    ReplyReader,
    Retry,
    Show,
    Value,
    explain_loss,
    receive,
    settle,
)
from lifecycle_magic.calls.sync import read_reply
from lifecycle_magic.container.slots import Slot
from lifecycle_magic.exception import WireError
from lifecycle_magic.pool.pool import Pool
from lifecycle_magic.threads.event_loop import Timer
from lifecycle_magic.threads.sigint import deferred
from lifecycle_magic.wire.frames import Channel, Kind

R = TypeVar("R")

LARGE_INPUT_BYTES = 1 << 16
"""Bytes of an input that a socket may not take at once while no peer reads."""


class Watcher(Protocol):
    """A loop that reports when a socket is readable: the session's event loop, or asyncio's."""

    def watch(self, source: Channel, callback: Callable[[], None]) -> None: ...
    def unwatch(self, source: Channel) -> None: ...


class AsyncioWatcher:
    """asyncio's loop as a `Watcher` of one channel at a time.

    `watch` may be called from any thread and raises RuntimeError if the loop is closed; `unwatch`
    may only be called on the loop's own thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._on = False
        self.thread = threading.get_ident()  # of the loop

    def watch(self, source: Channel, callback: Callable[[], None]) -> None:
        self._on = True
        if asyncio._get_running_loop() is self._loop:
            self._add(source, callback)
        else:
            self._loop.call_soon_threadsafe(self._add, source, callback)

    def _add(self, source: Channel, callback: Callable[[], None]) -> None:
        if self._on and source.fileno() >= 0:
            source.watch(self._loop, callback)

    def unwatch(self, source: Channel) -> None:
        self._on = False
        if source.fileno() >= 0:
            self._loop.remove_reader(source.fileno())

    def run(self, function: Callable[[], object], context: Context) -> None:
        """Run a function on the loop's thread. Raises RuntimeError if the loop is closed."""
        self._loop.call_soon_threadsafe(function, context=context)


class Unread(enum.Enum):
    """Why `read_available_reply` returns no reply."""

    LATER = "the rest has not arrived"
    BLOCKS = "the rest is too large for a thread that must not block"


def read_available_reply(
    reader: ReplyReader, show: Callable[[str, str], None]
) -> LastReply | Unread | None:
    """Return the next reply that is not output, without blocking, and show output.

    Return None if the connection ended or broke.
    """
    channel = reader.slot.channel
    while whole := channel.read_available():
        reply = receive(reader)
        if type(reply) is Show:
            reader.show(reply, show)
        elif type(reply) is Prompt:
            handle(reader.input, reader.slot, reply)
        else:
            return lost_if_broken(reader, reply)
    return Unread.BLOCKS if whole is None else Unread.LATER


def lost_if_broken(reader: ReplyReader, reply: R) -> R | None:
    """Return None for a reply that says that the connection broke, after killing the container.

    The call then fails like one whose container died, so it may be retried.
    """
    if isinstance(reply, Raise) and reply.is_lost:
        settle(reader, reply)
        return None
    return reply


class AwaitedInput(Input):
    """An input that waits for its slot in the future ``lease``, without blocking a thread."""

    __slots__ = ("lease",)

    blocks_thread = False

    def __init__(
        self, pool: Pool, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        super().__init__(pool, method, args, kwargs)
        self.lease: Future[Slot] = Future()

    def granted(self, slot: Slot) -> None:
        self.slot = slot
        try:
            self.lease.set_result(slot)
        except InvalidStateError:  # it was cancelled while it waited
            _release_soon(self, slot)

    def refused(self, error: BaseException) -> None:
        try:
            self.lease.set_exception(error)
        except InvalidStateError:
            pass


class DetachedCall(Input):
    """An input whose reply is read by ``watcher``, and whose outcome is set in ``future``.

    A watcher other than the default must cancel the future on its own thread. From then on
    `EventLoop.reply_loop` reads the reply, because a loop whose task was cancelled may be closed
    before the reply arrives.
    """

    __slots__ = ("__weakref__", "_watch", "_watched", "future", "timer", "watcher")

    blocks_thread = False
    make_reader: type[ReplyReader] = ReplyReader

    def __init__(
        self,
        pool: Pool,
        method: str,
        args: tuple[Any, ...] | None,
        kwargs: dict[str, Any],
        watcher: Watcher | None = None,
    ) -> None:
        super().__init__(pool, method, args, kwargs)
        self.watcher = watcher or pool.event_loop.reply_loop
        self._watched = False
        self._watch = threading.Lock()
        self.timer: Timer | None = None
        self.future: Future[Any] = Future()
        # The future must not refer to this input: a large outcome would live until the next
        # collection.
        me = weakref.ref(self)
        self.future.add_done_callback(lambda future: _notify_done(me(), future))

    def submit(self) -> Future[Any]:
        """Submit this input to the pool, and return its future."""
        self.pool.submit(self)
        return self.future

    def granted(self, slot: Slot) -> None:
        self.slot = slot
        if self.future.cancelled():
            _release_soon(self, slot)
            return
        self.timer = self.begin_attempt()
        if (
            len(self.payload) + sum(memoryview(one).nbytes for one in self.buffers)
            > LARGE_INPUT_BYTES
        ):
            _run_in_thread(self._send, slot)
        else:
            self._send(slot)

    def _send(self, slot: Slot) -> None:
        try:
            slot.channel.send(Kind.CALL, self.payload, self.buffers)
        except WireError as error:  # too large
            if self.timer is not None:
                self.timer.cancel()
            _release_soon(self, slot)
            self._set_outcome(error=error)
            return
        except OSError:
            self.unsent = True  # reading reports the error too, in the one place that handles it
        with self._watch:
            self._watched = True
            try:
                self.watcher.watch(slot.channel, self._on_readable)
            except RuntimeError:  # its loop is closed, and no coroutine awaits this
                self.watcher = self.pool.event_loop.reply_loop
                self.watcher.watch(slot.channel, self._on_readable)

    def refused(self, error: BaseException) -> None:
        self._set_outcome(error=error)

    def ask(self, slot: Slot, prompt: Prompt) -> None:
        watcher = self.watcher
        if not isinstance(watcher, AsyncioWatcher):
            refuse(slot, prompt)
            return
        # Not here, where SIGINT is held back.
        ask = functools.partial(ask_or_interrupt, self, slot, prompt)
        try:
            watcher.run(ask, self.context.copy())
        except RuntimeError:
            refuse(slot, prompt)

    def interrupt_at_prompt(self) -> None:
        self.future.cancel()

    def on_caller_blocking(self, thread: int) -> None:
        watcher = self.watcher
        if isinstance(watcher, AsyncioWatcher) and watcher.thread == thread:
            self._move_to_reply_loop()

    def _on_done(self, future: Future[Any]) -> None:
        if future.cancelled():
            with deferred():
                self.interrupts += 1
                self.pool.withdraw(self)
                self._move_to_reply_loop()
                self.pool.event_loop.call_soon(lambda: interrupt(self))

    def _move_to_reply_loop(self) -> None:
        with self._watch:
            before, self.watcher = self.watcher, self.pool.event_loop.reply_loop
            slot = self.slot
            if before is self.watcher or not self._watched or slot is None:
                return
            before.unwatch(slot.channel)
            self.watcher.watch(slot.channel, self._on_readable)

    def _on_readable(self) -> None:
        slot = self.slot
        if slot is None:
            return  # the call is over; the loop had one more callback queued
        with deferred():  # the loop may be the main thread's
            reader = self.make_reader(self, slot)
            reply = read_available_reply(reader, self.show_from_thread)
            if reply is Unread.LATER:
                return
            with self._watch:
                self._watched = False
                self.watcher.unwatch(slot.channel)
            if reply is Unread.BLOCKS:
                _run_in_thread(self._read_blocking, slot)
            else:
                assert not isinstance(reply, Unread)
                self._on_reply(reader, reply)

    def _read_blocking(self, slot: Slot) -> None:
        """Read the rest of the reply, on a thread that may block."""
        reader = self.make_reader(self, slot)
        self._on_reply(reader, lost_if_broken(reader, read_reply(reader, self.show_from_thread)))

    def _on_reply(self, reader: ReplyReader, reply: LastReply | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if reply is None:
            # The container's report may take a moment, and the loop must not wait for it.
            _run_in_thread(lambda _: self._finish(reader, explain_loss(reader)), reader.slot)
        else:
            self._finish(reader, reply)

    def _finish(self, reader: ReplyReader, reply: LastReply) -> None:
        if type(reply) is Value:
            self.pool.release(reader.slot)
            self._set_outcome(reply.value)
            return
        settle(reader, reply)
        self.pool.release(reader.slot)
        if type(reply) is Retry:
            self.pool.submit(self)
            return
        delay = self.count_failure(reply.error)
        if delay is None:
            self.pool.stats.failures += 1
            self._set_outcome(error=reply.error)
        else:
            self.pool.event_loop.call_later(delay, lambda: self.pool.submit(self))

    def _set_outcome(self, value: Any = None, error: BaseException | None = None) -> None:
        self.payload, self.buffers = b"", []  # the outcome's owner also keeps this input alive
        try:
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(value)
        except InvalidStateError:
            pass  # cancelled meanwhile; no code waits


class SpawnedCall(DetachedCall):
    """A detached call whose caller continues at once, and may change the arguments."""

    __slots__ = ()

    copies_buffers = True


class AwaitableCall(SpawnedCall):
    """A spawned call that its caller is about to wait for. ``prompts`` are asked there."""

    __slots__ = ("prompts",)

    def __init__(
        self, pool: Pool, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        super().__init__(pool, method, args, kwargs)
        self.prompts = PromptQueue()

    def ask(self, slot: Slot, prompt: Prompt) -> None:
        ask = functools.partial(ask_or_interrupt, self, slot, prompt)
        self.prompts.put(ask, functools.partial(refuse, slot, prompt))


def _notify_done(input: DetachedCall | None, future: Future[Any]) -> None:
    if input is not None:
        input._on_done(future)


def _release_soon(input: Input, slot: Slot) -> None:
    """Release a slot from within a grant.

    Not at once: that would grant the slot to the next waiting input, and grants must not nest.
    """
    input.pool.event_loop.call_soon(lambda: input.pool.release(slot))


def _run_in_thread(run: Callable[[Slot], None], slot: Slot) -> None:
    """Run a function that may block on a thread of its own."""
    name = f"{slot.container.name}-blocking"
    threading.Thread(target=run, args=(slot,), name=name, daemon=True).start()
