"""Calls that nobody waits for at once: ``spawn``, ``async def`` methods, ``.aio``.

Their replies are read by whichever loop watches the socket: the session's thread for replies, or
asyncio's own. Neither may wait, so what is large is sent, and read, by a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any, Protocol

from lifecycle_magic.calling.calls import answer_of
from lifecycle_magic.containers.slots import Slot
from lifecycle_magic.exception import WireError
from lifecycle_magic.monitor import Timer
from lifecycle_magic.pools.inputs import Input, Unstarted, interrupt
from lifecycle_magic.pools.pool import Pool
from lifecycle_magic.sigint import deferred
from lifecycle_magic.wire.frames import Channel, Frame, Kind
from lifecycle_magic.wire.messages import output

LARGE = 1 << 16
"""Bytes of an input that a socket without a reader may not take at once."""


class Watcher(Protocol):
    """A loop that tells when a socket is readable: the session's monitor, or asyncio's loop."""

    def watch(self, source: Channel, callback: Callable[[], None]) -> None: ...
    def unwatch(self, source: Channel) -> None: ...


class AsyncioWatcher:
    """asyncio's loop as a `Watcher` of one channel at a time.

    `watch` may be called from any thread and raises RuntimeError when the loop is closed;
    `unwatch` is for the loop's own thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._on = False

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


class Awaited(Input):
    """An input that waits for its slot in ``granted``, and blocks no thread."""

    __slots__ = ("granted",)

    def __init__(
        self, pool: Pool, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        super().__init__(pool, method, args, kwargs)
        self.granted: Future[Slot] = Future()

    def grant(self, slot: Slot) -> None:
        self.slot = slot
        try:
            self.granted.set_result(slot)
        except InvalidStateError:  # it was cancelled while it waited
            _give_back(self, slot)

    def refuse(self, error: BaseException) -> None:
        try:
            self.granted.set_exception(error)
        except InvalidStateError:
            pass


class Attended(Input):
    """An input whose reply ``watcher`` reads, in the end `Monitor.replies`; ``future`` gets the
    outcome.

    Once the future is cancelled, which another watcher's own thread has to do, that thread reads
    the reply: a loop whose task was cancelled may be closed before it comes.
    """

    __slots__ = ("__weakref__", "_watch", "_watched", "future", "timer", "watcher")

    def __init__(
        self,
        pool: Pool,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        watcher: Watcher | None = None,
    ) -> None:
        super().__init__(pool, method, args, kwargs)
        self.watcher = watcher or pool.monitor.replies
        self._watched = False
        self._watch = threading.Lock()
        self.timer: Timer | None = None
        self.future: Future[Any] = Future()
        # The future must not lead back here: a large outcome would live until the next collection.
        me = weakref.ref(self)
        self.future.add_done_callback(lambda future: _tell(me(), future))

    def submitted(self) -> Future[Any]:
        """Have the pool take it."""
        self.pool.submit(self)
        return self.future

    def grant(self, slot: Slot) -> None:
        self.slot = slot
        if self.future.cancelled():
            _give_back(self, slot)
            return
        self.timer = self.watch_time()
        if len(self.payload) + sum(memoryview(one).nbytes for one in self.buffers) > LARGE:
            _aside(self._send, slot)
        else:
            self._send(slot)

    def _send(self, slot: Slot) -> None:
        try:
            slot.channel.send(Kind.CALL, self.payload, self.buffers)
        except WireError as error:  # too large
            if self.timer is not None:
                self.timer.cancel()
            _give_back(self, slot)
            self._settle(error=error)
            return
        except OSError:
            self.unsent = True  # reading says so too, in the one place that deals with it
        with self._watch:
            self._watched = True
            try:
                self.watcher.watch(slot.channel, self._on_readable)
            except RuntimeError:  # its loop is closed, and nobody awaits this
                self.watcher = self.pool.monitor.replies
                self.watcher.watch(slot.channel, self._on_readable)

    def refuse(self, error: BaseException) -> None:
        self._settle(error=error)

    def _on_done(self, future: Future[Any]) -> None:
        if future.cancelled():
            with deferred():
                self.interrupts += 1
                self.pool.forget(self)
                self._have_replies_watch()
                self.pool.monitor.soon(lambda: interrupt(self))

    def _have_replies_watch(self) -> None:
        with self._watch:
            before, self.watcher = self.watcher, self.pool.monitor.replies
            slot = self.slot
            if before is self.watcher or not self._watched or slot is None:
                return
            before.unwatch(slot.channel)
            self.watcher.watch(slot.channel, self._on_readable)

    def _on_readable(self) -> None:
        slot = self.slot
        if slot is None:
            return  # it is over; the loop had one more call in store
        with deferred():  # the loop may be the main thread's
            while whole := slot.channel.whole():
                frame = self._receive(slot)
                if frame is None or frame.kind != Kind.OUTPUT:
                    self._unwatch(slot)
                    self._on_answer(slot, frame)
                    return
            if whole is None:
                self._unwatch(slot)
                _aside(self._read_on, slot)

    def _receive(self, slot: Slot) -> Frame | None:
        """The next frame, with its output shown; None if the connection ended or broke."""
        try:
            frame = slot.channel.receive()
            if frame is not None and frame.kind == Kind.OUTPUT:
                self.show_from_elsewhere(*output(frame.payload))
        except OSError as error:
            if isinstance(error, WireError):
                slot.container.broke(str(error))
            return None
        return frame

    def _unwatch(self, slot: Slot) -> None:
        with self._watch:
            self._watched = False
            self.watcher.unwatch(slot.channel)

    def _read_on(self, slot: Slot) -> None:
        """On a thread of its own, which may wait."""
        while (frame := self._receive(slot)) is not None and frame.kind == Kind.OUTPUT:
            pass
        self._on_answer(slot, frame)

    def _on_answer(self, slot: Slot, frame: Frame | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if frame is None:
            # Its last words may take a moment to arrive, and the loop must not wait for them.
            _aside(self._bury, slot)
            return
        try:
            value = answer_of(slot, self, frame)
        except BaseException as error:
            self.pool.release(slot)
            self._failed(error)
        else:
            self.pool.release(slot)
            self._settle(value)

    def _bury(self, slot: Slot) -> None:
        error = self.lost(slot)
        self.pool.release(slot)
        self._failed(error)

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, Unstarted):
            self.pool.submit(self)
            return
        delay = self.delay(error)
        if delay is None:
            self.pool.stats.failures += 1
            self._settle(error=error)
        else:
            self.pool.monitor.later(delay, lambda: self.pool.submit(self))

    def _settle(self, value: Any = None, error: BaseException | None = None) -> None:
        self.payload, self.buffers = b"", []  # whoever keeps the outcome keeps this input
        try:
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(value)
        except InvalidStateError:
            pass  # cancelled in the meantime; nobody waits


class Spawned(Attended):
    """One whose caller goes on at once, and may change what it passed."""

    __slots__ = ()

    copies = True


def _tell(input: Attended | None, future: Future[Any]) -> None:
    if input is not None:
        input._on_done(future)


def _give_back(input: Input, slot: Slot) -> None:
    """From within a grant. Not at once: the next one who waits is granted the slot then, and grants
    must not nest.
    """
    input.pool.monitor.soon(lambda: input.pool.release(slot))


def _aside(run: Callable[[Slot], None], slot: Slot) -> None:
    """Do what may take long on a thread of its own."""
    name = f"{slot.container.name}-aside"
    threading.Thread(target=run, args=(slot,), name=name, daemon=True).start()
