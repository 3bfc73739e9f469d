"""``@batched`` methods: single inputs of many callers, combined into one call with lists.

A batch is sent when it is full, or ``wait_ms`` after its first input arrived. The method gets a
list for each parameter and returns a list of the same length; each caller gets its own element.
"""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lifecycle_magic.calls.detached import DetachedCall
from lifecycle_magic.calls.prompts import Prompt, refuse
from lifecycle_magic.decorators.classes import title
from lifecycle_magic.errors.remote import alike
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.wire.pickling import Snapshot
from lifecycle_magic.wire.unpicklable import arguments_error

if TYPE_CHECKING:
    from lifecycle_magic.container.slots import Slot
    from lifecycle_magic.pool.pool import Pool
    from lifecycle_magic.spec.class_spec import MethodSpec
    from lifecycle_magic.threads.event_loop import Timer


@dataclass(frozen=True)
class QueuedInput:
    """The input of one caller, which waits for its batch."""

    future: Future[Any]
    given: dict[str, Snapshot]
    context: contextvars.Context


class Batch(DetachedCall):
    """The combined inputs of many callers. Each was copied when it arrived."""

    __slots__ = ()

    copies_buffers = False

    def ask(self, slot: Slot, prompt: Prompt) -> None:
        refuse(slot, prompt, "a batched method runs for several callers")


class Batcher:
    """The collector of the inputs of one batched method of one pool."""

    def __init__(self, pool: Pool, method: MethodSpec) -> None:
        assert method.batched is not None
        self._pool = pool
        self._method = method
        self._most = method.batched.max_batch_size
        self._wait = method.batched.wait_ms / 1000
        self._lock = threading.Lock()
        self._waiting: list[QueuedInput] = []
        self._timer: Timer | None = None

    @classmethod
    def of(cls, pool: Pool, method: MethodSpec) -> Batcher:
        """Return the batcher of a method: callers with different handles fill batches together."""
        key = (method.name, method.batched, str(method.signature))
        found: Batcher | None = pool.batchers.get(key)
        return found if found is not None else pool.batchers.setdefault(key, cls(pool, method))

    def submit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        """Add one input. Return the future of its own element of the result.

        Raises `TypeError` for arguments that the method does not take, and `SerializationError` for
        an argument that cannot be pickled.
        """
        bound = self._method.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        try:
            # Now, because the caller may change them before the batch is sent.
            given = {name: Snapshot(value) for name, value in bound.arguments.items()}
        except Exception as error:
            where = title(self._pool, self._method.name)
            raise arguments_error(where, args, kwargs, error) from None
        future: Future[Any] = Future()
        one = QueuedInput(future, given, contextvars.copy_context())
        full = None
        with self._lock:
            self._waiting = [other for other in self._waiting if not other.future.cancelled()]
            self._waiting.append(one)
            if len(self._waiting) >= self._most:
                full = self._take()
            elif self._timer is None:
                self._timer = self._pool.event_loop.call_later(self._wait, self._send_overdue)
        if full:
            self._send(full)
        return future

    def _take(self) -> list[QueuedInput]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting = self._waiting, []
        return batch

    def _send_overdue(self) -> None:
        with self._lock:
            batch = self._take()
        if batch:
            self._pool.event_loop.reply_loop.call_soon(lambda: self._send(batch))

    def _send(self, batch: list[QueuedInput]) -> None:
        batch = [one for one in batch if not one.future.cancelled()]
        if not batch:
            return
        lists = {name: [one.given[name] for one in batch] for name in batch[0].given}
        futures = [one.future for one in batch]
        try:
            # The method's output appears where the first of them was called.
            input = batch[0].context.run(Batch, self._pool, self._method.name, (), lists)
        except Exception as error:
            _fail(futures, error)
            return
        input.future.add_done_callback(lambda whole: self._distribute(futures, whole))

        def on_cancelled(_: Future[Any]) -> None:
            if all(future.cancelled() for future in futures):
                input.future.cancel()  # one input can't be interrupted alone; all of them can

        for future in futures:
            future.add_done_callback(on_cancelled)
        self._pool.submit(input)

    def _distribute(self, futures: list[Future[Any]], whole: Future[Any]) -> None:
        if whole.cancelled():
            return
        error = whole.exception()
        if error is not None:
            _fail(futures, error)
            return
        values = whole.result()
        if not isinstance(values, list) or len(values) != len(futures):
            got = f"a list of {len(values)}" if isinstance(values, list) else type(values).__name__
            _fail(
                futures,
                InvalidError(
                    f"{title(self._pool, self._method.name)} got a batch of {len(futures)} and "
                    f"returned {got}. Fix: return a list with one element per input"
                ),
            )
            return
        for future, value in zip(futures, values, strict=True):
            _settle(future, value)


def _fail(futures: list[Future[Any]], error: BaseException) -> None:
    for index, future in enumerate(futures):
        try:
            future.set_exception(alike(error) if index else error)
        except InvalidStateError:
            pass  # this caller has cancelled its call


def _settle(future: Future[Any], value: Any) -> None:
    try:
        future.set_result(value)
    except InvalidStateError:
        pass  # this caller has cancelled its call
