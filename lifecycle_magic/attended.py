"""Calls that nobody waits for at once: ``spawn``, ``async def`` methods, ``.aio``.

Their replies are read by whichever loop watches the socket: the session's thread for replies, or
asyncio's own. Neither may wait, so what is large is sent, and read, by a thread of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Protocol

from lifecycle_magic.calls import answer_of
from lifecycle_magic.exception import InputCancelled, WireError
from lifecycle_magic.inputs import Input, Unstarted, interrupt
from lifecycle_magic.monitor import Timer
from lifecycle_magic.pool import Pool
from lifecycle_magic.sigint import deferred
from lifecycle_magic.slots import Slot
from lifecycle_magic.wire.frames import Frame, Kind
from lifecycle_magic.wire.messages import output

LARGE = 1 << 16
"""Bytes of an input that a socket without a reader may not take at once."""


class Way:
    """One way to call something: a function, with its twin for coroutines as ``aio``."""

    __slots__ = ("_call", "aio")

    def __init__(self, call: Callable[..., Any], aio: Callable[..., Any]) -> None:
        self._call = call
        self.aio = aio

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return self._call(*args, **kwargs)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self._call.__doc__


class Watcher(Protocol):
    """A loop that tells when a socket is readable: the session's monitor, or asyncio's loop."""

    def watch(self, source: Any, callback: Callable[[], None]) -> None: ...
    def unwatch(self, source: Any) -> None: ...


class AsyncioWatcher:
    """asyncio's loop as a `Watcher` of one channel at a time.

    `watch` may be called from any thread and raises RuntimeError when the loop is closed;
    `unwatch` is for the loop's own thread.
    """

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._on = False

    def watch(self, source: Any, callback: Callable[[], None]) -> None:
        import asyncio

        self._on = True
        if asyncio._get_running_loop() is self._loop:
            self._add(source, callback)
        else:
            self._loop.call_soon_threadsafe(self._add, source, callback)

    def _add(self, source: Any, callback: Callable[[], None]) -> None:
        if self._on and source.fileno() >= 0:
            source.watch(self._loop, callback)

    def unwatch(self, source: Any) -> None:
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
            self.pool.monitor.soon(lambda: self.pool.release(slot))

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

    __slots__ = ("_watch", "_watched", "future", "timer", "watcher")

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
        self.future.add_done_callback(self._on_done)

    def submitted(self) -> Future[Any]:
        """Have the pool take it."""
        self.pool.submit(self)
        return self.future

    def grant(self, slot: Slot) -> None:
        self.slot = slot
        if self.future.cancelled():
            self.pool.monitor.soon(lambda: self.pool.release(slot))
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
            self.pool.monitor.soon(lambda: self.pool.release(slot))
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


def _aside(run: Callable[[Slot], None], slot: Slot) -> None:
    """Do what may take long on a thread of its own."""
    name = f"{slot.container.name}-aside"
    threading.Thread(target=run, args=(slot,), name=name, daemon=True).start()


class FunctionCall:
    """A call that was started and not waited for. ``await`` it, or `get` its value.

    ``get``, ``cancel`` and ``gather`` have a twin for coroutines, ``.aio``.
    """

    gather: Way  # of `gather`, below

    def __init__(self, future: Future[Any], where: str) -> None:
        self._future = future
        self._where = where

    @property
    def get(self) -> Way:
        """``get(timeout=None)``: the value, or the method's exception."""
        return Way(self._get, self._get_aio)

    @property
    def cancel(self) -> Way:
        """``cancel()``: interrupt the method; its container stays warm."""
        return Way(self._cancel, self._cancel_aio)

    def _get(self, timeout: float | None = None) -> Any:
        """The value, or the method's exception.

        Raises `TimeoutError` after ``timeout`` seconds; the call then goes on. Interrupting the
        wait interrupts the method.
        """
        __tracebackhide__ = True
        try:
            return self._future.result(timeout)
        except CancelledError:
            raise InputCancelled(f"{self._where} was cancelled") from None
        except FutureTimeout as error:
            if self._future.done():
                raise  # the method's own
            raise self._not_yet(timeout) from error
        except KeyboardInterrupt:
            self._cancel()
            raise

    async def _get_aio(self, timeout: float | None = None) -> Any:
        import asyncio

        waiting = asyncio.wrap_future(self._future)
        waiting.add_done_callback(_noted)
        if not (await asyncio.wait([waiting], timeout=timeout))[0]:
            raise self._not_yet(timeout)
        return self._get()

    def _not_yet(self, timeout: float | None) -> TimeoutError:
        return TimeoutError(f"{self._where} has not returned within {timeout:g} s; it goes on")

    def _cancel(self) -> None:
        """Interrupt the method; its container stays warm."""
        with deferred():
            self._future.cancel()

    async def _cancel_aio(self) -> None:
        self._cancel()

    def done(self) -> bool:
        """Whether there is an outcome."""
        return self._future.done()

    def __await__(self) -> Generator[Any, None, Any]:
        return self._awaited().__await__()

    async def _awaited(self) -> Any:
        """The value. Cancelling the task that awaits it interrupts the method."""
        import asyncio

        waiting = asyncio.wrap_future(self._future)
        waiting.add_done_callback(_noted)
        try:
            await asyncio.wait([waiting])
        except asyncio.CancelledError:
            with deferred():
                waiting.cancel()
            raise
        return self._get()  # a call that was cancelled is no cancellation of this task

    def __repr__(self) -> str:
        state = "running"
        if self._future.done():
            state = "cancelled" if self._future.cancelled() else "done"
        return f"<call of {self._where}: {state}; .get() or await it>"


def _noted(waiting: Any) -> None:
    """Or else asyncio complains of an exception that nobody asked its own future for."""
    if not waiting.cancelled():
        waiting.exception()


def gather(*calls: FunctionCall) -> list[Any]:
    """Wait for calls that were started: their values in their order.

    The first exception is raised at once, and the calls that still run are cancelled.

    >>> gather(model.predict.spawn(1), model.predict.spawn(2))  # doctest: +SKIP
    [1, 2]
    """
    from concurrent.futures import FIRST_EXCEPTION, wait

    futures = [call._future for call in calls]
    try:
        wait(futures, return_when=FIRST_EXCEPTION)
        for future in futures:
            if future.done() and (future.cancelled() or future.exception() is not None):
                calls[futures.index(future)].get()
        return [future.result() for future in futures]
    except BaseException:
        with deferred():
            for future in futures:
                future.cancel()
        raise


async def _gather_aio(*calls: FunctionCall) -> list[Any]:
    import asyncio

    try:
        return list(await asyncio.gather(*calls))
    except BaseException:
        for call in calls:
            call.cancel()
        raise


FunctionCall.gather = Way(gather, _gather_aio)
