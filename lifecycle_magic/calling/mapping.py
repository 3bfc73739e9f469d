"""``.map`` and its kin: many inputs in, their results out, and no more than a window between.

Three parties, each on its own thread, so that none keeps another waiting: the *feeder* takes
inputs from the user's iterator, which may block; the `lifecycle_magic.calling.pump` has them run;
the *consumer*, the user's own thread, takes results. Between feeder and consumer there are never
more than `WINDOW` inputs and about `WINDOW_BYTES`, so an endless iterator needs no endless memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from lifecycle_magic.calling.batch_pump import BatchPump, Submit
from lifecycle_magic.calling.pump import Pump
from lifecycle_magic.exception import SerializationError
from lifecycle_magic.sigint import deferred

if TYPE_CHECKING:
    from lifecycle_magic.pools.pool import Pool

WINDOW = 1000
"""Inputs at most between the user's iterator and the user's loop over the results."""

WINDOW_BYTES = 256 << 20
"""And bytes of those, or of what came of them. There are always some for each slot, however large
they are.
"""

FOR_EACH_SLOT = 2  # one that runs, and one that is there when it ends

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Mapping:
    """One ``.map``. Iterate over `results`, and `close` it in the end, also early.

    ``submit`` is that of a batched method's batcher; it takes the inputs to containers then.
    """

    def __init__(
        self,
        pool: Pool,
        method: str,
        *,
        ordered: bool = True,
        return_exceptions: bool = False,
        submit: Submit | None = None,
    ) -> None:
        self.pool = pool
        self.method = method
        self._ordered = ordered
        self._return_exceptions = return_exceptions
        # All of this under one lock.
        lock = threading.Lock()
        self._changed = threading.Condition(lock)  # for the consumer
        self._room = threading.Condition(lock)  # for the feeder
        self._results: dict[int, tuple[bool, Any]] = {}
        self._finished: deque[int] = deque()
        self._fed = 0
        self._taken = 0
        self._sizes: dict[int, int] = {}  # of what was fed and not taken
        self._bytes = 0  # of all that
        self._blocked = False  # the feeder waits
        self._end: int | None = None  # how many inputs there are, once the iterator has ended
        self._error: BaseException | None = None  # of the user's iterator
        self._fatal: BaseException | None = None  # no container comes up
        self._closed = False
        self._on_result: Callable[[], None] | None = None  # for a consumer that can't block
        self._on_room: Callable[[], None] | None = None  # for a feeder that can't block
        self._pump: Pump | BatchPump
        if submit is None:
            context = contextvars.copy_context()
            self._pump = Pump(pool, method, context, self._count, self._settle, self._fail)
        else:
            self._pump = BatchPump(submit, self._count, self._settle)

    # --- the feeder ------------------------------------------------------------------------

    def feed(self, inputs: Iterable[Arguments]) -> None:
        """Take inputs from ``inputs`` on a thread of its own."""
        iterator = iter(inputs)

        def run() -> None:
            try:
                while self._wait_for_room():
                    try:
                        args, kwargs = next(iterator)
                    except StopIteration:
                        break
                    self._put(args, kwargs)
            except BaseException as error:
                self._stop_feeding(error)
            else:
                self._stop_feeding()
            finally:
                if hasattr(iterator, "close"):
                    with contextlib.suppress(Exception):
                        iterator.close()

        threading.Thread(
            target=contextvars.copy_context().run,
            args=(run,),
            name=f"{self.pool.name}-feed",
            daemon=True,
        ).start()

    async def feed_async(self, inputs: AsyncIterator[Arguments]) -> None:
        """Take inputs from an async iterator on this loop."""
        loop = asyncio.get_running_loop()
        room = asyncio.Event()

        def tell() -> None:
            loop.call_soon_threadsafe(room.set)

        self._on_room = tell
        try:
            async for args, kwargs in inputs:
                while not self._has_room():
                    room.clear()
                    await room.wait()
                self._put(args, kwargs)
        except Exception as error:
            self._stop_feeding(error)
        else:
            self._stop_feeding()

    def _put(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        index = self._fed  # nobody else counts there
        try:
            self._pump.put(index, args, kwargs)
        except SerializationError as error:
            if index == self._fed:
                self._count(index, 0)
            self._settle([(index, False, error, 0)])

    def _count(self, index: int, size: int) -> None:
        """An input was taken that has ``size`` bytes; nothing can have come of it yet."""
        with self._changed:
            self._fed += 1
            self._sizes[index] = size
            self._bytes += size

    def _stop_feeding(self, error: BaseException | None = None) -> None:
        """There are no more inputs, or no more can be had."""
        with self._changed:
            self._end = self._fed
            self._error = error
            self._notify()
        self._pump.end()

    def _wait_for_room(self) -> bool:
        with self._changed:
            while not (self._closed or self._look_for_room()):
                self._room.wait()
            return not self._closed

    def _has_room(self) -> bool:
        with self._changed:
            return self._look_for_room()

    def _look_for_room(self) -> bool:
        """Under the lock, for the feeder: whether it may go on. Else it is told when it may."""
        self._blocked = self._full(WINDOW, WINDOW_BYTES)
        return not self._blocked

    def _full(self, most: int, most_bytes: int) -> bool:
        inputs = self._fed - self._taken
        return inputs >= most or (
            self._bytes >= most_bytes and inputs >= FOR_EACH_SLOT * self.pool.capacity
        )

    def _make_room(self) -> None:
        """Under the lock: let the feeder go on, but not for each single result."""
        if self._blocked and not self._full(WINDOW // 2, WINDOW_BYTES // 2):
            self._blocked = False
            self._room.notify()
            if self._on_room is not None:
                self._on_room()

    # --- what comes back -------------------------------------------------------------------

    def _settle(self, done: list[tuple[int, bool, Any, int]]) -> None:
        """What came of inputs: of each its index, whether it went well, what came, its bytes."""
        with self._changed:
            for index, well, value, size in done:
                self._bytes += size - self._sizes[index]
                self._sizes[index] = size
                self._results[index] = (well, value)
                if not self._ordered:
                    self._finished.append(index)
            self._make_room()
            self._notify()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._fatal = error
            self._notify()

    def _notify(self) -> None:
        self._changed.notify()
        if self._on_result is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed; nobody waits
                self._on_result()

    # --- the consumer ----------------------------------------------------------------------

    def results(self) -> Iterator[Any]:
        """The values as they come, in order or not; raises an input's exception when it is its
        turn.
        """
        while True:
            with self._changed:
                while (ready := self._next()) is None:
                    self._changed.wait()
            if not ready:
                return
            yield self._outcome(ready[0])

    async def results_async(self) -> AsyncIterator[Any]:
        """`results` for coroutines."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def tell() -> None:
            loop.call_soon_threadsafe(changed.set)

        self._on_result = tell
        while True:
            changed.clear()
            with self._changed:
                ready = self._next()
            if ready is None:
                await changed.wait()
                continue
            if not ready:
                return
            yield self._outcome(ready[0])

    def _next(self) -> list[tuple[bool, Any]] | None:
        """The next outcome in a list, an empty list at the end, None if one has to wait."""
        if self._ordered:
            index = self._taken if self._taken in self._results else None
        else:
            index = self._finished.popleft() if self._finished else None
        if index is not None:
            self._taken += 1
            self._bytes -= self._sizes.pop(index)
            self._make_room()
            return [self._results.pop(index)]
        if self._fatal is not None:
            raise self._fatal
        if self._taken != self._end:
            return None
        if self._error is not None:
            raise self._error
        return []

    def _outcome(self, outcome: tuple[bool, Any]) -> Any:
        well, value = outcome
        if not well and not self._return_exceptions:
            raise value
        return value

    def close(self) -> None:
        """Want nothing more: what runs is interrupted, what waits is dropped. Returns at once."""
        with deferred():
            with self._changed:
                if self._closed:
                    return
                self._closed = True
                self._room.notify()
            self._pump.close()
