"""The execution of one ``.map``: inputs in, results out, with bounded read-ahead.

Three parties work on threads of their own, so that none delays another. The *feeder* takes inputs
from the user's iterator, which may block. The `lifecycle_magic.calls.map.pump` runs them. The
*consumer*, the user's own thread, takes results. Between feeder and consumer there are never more
than `WINDOW` inputs and about `WINDOW_BYTES`, so an endless iterator needs bounded memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from lifecycle_magic.callers.many_calls import Arguments
from lifecycle_magic.calls.map.batch_pump import BatchPump, Submit
from lifecycle_magic.calls.map.pump import Pump
from lifecycle_magic.calls.prompts import ask_or_interrupt
from lifecycle_magic.decorators.classes import title
from lifecycle_magic.exception import InvalidError, SerializationError
from lifecycle_magic.threads.sigint import deferred

if TYPE_CHECKING:
    from lifecycle_magic.calls.map.map_slots import Item
    from lifecycle_magic.calls.prompts import Prompt
    from lifecycle_magic.container.slots import Slot
    from lifecycle_magic.pool.pool import Pool

WINDOW = 1000
"""Maximum number of inputs between the user's iterator and the user's loop over the results."""

WINDOW_BYTES = 256 << 20
"""Maximum bytes of those inputs, or of their results. There are always some inputs for each slot,
however large they are.
"""

DEADLOCK_CHECK_SECONDS = 0.05
"""Seconds that the consumer waits before it checks whether the wait can end."""

INPUTS_PER_SLOT = 2  # one that runs, and one that is ready when it ends


class MapRun:
    """One ``.map``. Iterate over `results`, and `close` it in the end, also after an early exit.

    ``submit`` belongs to the batcher of a batched method, which then runs the inputs.
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
        # All of this is guarded by one lock.
        lock = threading.Lock()
        self._changed = threading.Condition(lock)  # for the consumer
        self._room = threading.Condition(lock)  # for the feeder
        self._results: dict[int, tuple[bool, Any]] = {}
        self._finished: deque[int] = deque()
        self._fed = 0
        self._taken = 0
        # of the inputs that were fed and whose results were not taken
        self._sizes: dict[int, int] = {}
        self._bytes = 0  # their sum
        self._blocked = False  # the feeder waits
        self._end: int | None = None  # the number of inputs, once the iterator has ended
        self._error: BaseException | None = None  # of the user's iterator
        self._fatal: BaseException | None = None  # no container starts
        self._prompts: deque[Callable[[], None]] = deque()  # for the consumer to ask the user
        self._closed = False
        self.is_deadlocked = False  # the inputs themselves hold every slot that they could run in
        self._on_result: Callable[[], None] | None = None  # for a consumer that must not block
        self._on_room: Callable[[], None] | None = None  # for a feeder that must not block
        self._pump: Pump | BatchPump
        if submit is None:
            context = contextvars.copy_context()
            self._pump = Pump(
                pool, method, context, self._count, self._settle, self._fail, self._on_prompt
            )
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

        def notify() -> None:
            loop.call_soon_threadsafe(room.set)

        self._on_room = notify
        try:
            async for args, kwargs in inputs:
                while not self._has_room():
                    room.clear()
                    if self._fail_if_deadlocked(awaits=True):
                        return
                    await room.wait()
                self._put(args, kwargs)
        except Exception as error:
            self._stop_feeding(error)
        else:
            self._stop_feeding()

    def _put(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        index = self._fed  # only this thread changes it
        try:
            self._pump.put(index, args, kwargs)
        except SerializationError as error:
            if index == self._fed:
                self._count(index, 0)
            named = SerializationError(f"input {index + 1} of the map: {error}")
            self._settle([(index, False, named, 0)])

    def _count(self, index: int, size: int) -> None:
        """Count an input of ``size`` bytes, before it can have an outcome."""
        with self._changed:
            self._fed += 1
            self._sizes[index] = size
            self._bytes += size

    def _stop_feeding(self, error: BaseException | None = None) -> None:
        """Record the end of the inputs, or the error of the iterator."""
        with self._changed:
            self._end = self._fed
            self._error = error
            self._notify()
        self._pump.end()

    def _wait_for_room(self) -> bool:
        with self._changed:
            room = self._closed or self._check_room()
        if not room and self._fail_if_deadlocked():
            return False
        with self._changed:
            while not (self._closed or self._check_room()):
                self._room.wait()
            return not self._closed

    def _fail_if_deadlocked(self, *, awaits: bool = False) -> bool:
        """Fail the map if the feeder's wait for room can never end. Return whether it failed."""
        try:
            self._check_wait(awaits=awaits)
        except InvalidError as error:
            self.is_deadlocked = True
            self._fail(error)
            return True
        return False

    def _check_wait(self, *, awaits: bool = False) -> None:
        """Raise `InvalidError` if the running code keeps every slot from the map's inputs."""
        self.pool.deadlocks.check_wait(title(self.pool, self.method), awaits=awaits)

    def _has_room(self) -> bool:
        with self._changed:
            return self._check_room()

    def _check_room(self) -> bool:
        """Return whether the feeder may continue. Otherwise it is notified later. Under the
        lock.
        """
        self._blocked = self._is_full(WINDOW, WINDOW_BYTES)
        return not self._blocked

    def _is_full(self, most: int, most_bytes: int) -> bool:
        inputs = self._fed - self._taken
        return inputs >= most or (
            self._bytes >= most_bytes and inputs >= INPUTS_PER_SLOT * self.pool.limits.capacity
        )

    def _make_room(self) -> None:
        """Let the feeder continue, but not after every single result. Under the lock."""
        if self._blocked and not self._is_full(WINDOW // 2, WINDOW_BYTES // 2):
            self._blocked = False
            self._room.notify()
            if self._on_room is not None:
                self._on_room()

    # --- what comes back -------------------------------------------------------------------

    def _settle(self, done: list[tuple[int, bool, Any, int]]) -> None:
        """Record outcomes: of each input its index, whether it succeeded, its value and its
        bytes.
        """
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

    def _on_prompt(self, item: Item, slot: Slot, prompt: Prompt) -> None:
        """Have the consumer ask the user what a running item asks."""
        with self._changed:
            self._prompts.append(functools.partial(ask_or_interrupt, item, slot, prompt))
            self._notify()

    def _notify(self) -> None:
        self._changed.notify()
        if self._on_result is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed; no code waits
                self._on_result()

    # --- the consumer ----------------------------------------------------------------------

    def results(self) -> Iterator[Any]:
        """Yield the values as they arrive, in order or not.

        Raises an input's exception when its turn comes.
        """
        while True:
            with self._changed:
                ready = self._next()
                if ready is None and not self._prompts:
                    self._changed.wait(DEADLOCK_CHECK_SECONDS)
                    ready = self._next()
            if ready is None and not self._prompts:
                self._check_wait()
            with self._changed:
                while ready is None and not self._prompts and (ready := self._next()) is None:
                    self._changed.wait()
            if ready is None:
                self._prompts.popleft()()
                continue
            if not ready:
                return
            yield self._outcome(ready[0])

    async def results_async(self) -> AsyncIterator[Any]:
        """Do what `results` does, for coroutines."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def notify() -> None:
            loop.call_soon_threadsafe(changed.set)

        self._on_result = notify
        while True:
            changed.clear()
            with self._changed:
                ready = self._next()
            if ready is None and self._prompts:
                self._prompts.popleft()()
                continue
            if ready is None:
                self._check_wait(awaits=True)
                await changed.wait()
                continue
            if not ready:
                return
            yield self._outcome(ready[0])

    def _next(self) -> list[tuple[bool, Any]] | None:
        """Return the next outcome in a list, an empty list at the end, or None if it has to
        wait.
        """
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
            fatal, self._fatal = self._fatal, None
            try:
                raise fatal
            finally:
                del fatal  # it refers to this frame, and with it to the remaining inputs
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
        """Cancel the map: interrupt what runs and drop what waits. Return at once."""
        with deferred():
            with self._changed:
                if self._closed:
                    return
                self._closed = True
                self._room.notify()
            self._pump.close()
