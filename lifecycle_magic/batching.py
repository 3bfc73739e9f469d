"""``@batched``: single inputs of many callers, put together into one call with lists.

A batch leaves when it is full, or ``wait_ms`` after its first input came. The method gets a
list for each parameter and returns a list of the same length; each caller gets its own element.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any

from lifecycle_magic.attended import Attended
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.pool import alike

if TYPE_CHECKING:
    from lifecycle_magic.monitor import Timer
    from lifecycle_magic.pool import Pool
    from lifecycle_magic.spec import MethodSpec


class Batcher:
    """Collects the inputs of one batched method of one pool."""

    def __init__(self, pool: Pool, method: MethodSpec) -> None:
        assert method.batched is not None
        self._pool = pool
        self._method = method
        self._most = method.batched.max_batch_size
        self._wait = method.batched.wait_ms / 1000
        self._lock = threading.Lock()
        self._waiting: list[tuple[Future[Any], dict[str, Any]]] = []
        self._timer: Timer | None = None

    def submit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        """Add one input; its future gets its own element of the result.

        Raises `TypeError` for arguments that the method does not take.
        """
        bound = self._method.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        future: Future[Any] = Future()
        full = None
        with self._lock:
            self._waiting = [one for one in self._waiting if not one[0].cancelled()]
            self._waiting.append((future, dict(bound.arguments)))
            if len(self._waiting) >= self._most:
                full = self._take()
            elif self._timer is None:
                self._timer = self._pool.monitor.later(self._wait, self._overdue)
        if full:
            self._send(full)
        return future

    def _take(self) -> list[tuple[Future[Any], dict[str, Any]]]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting = self._waiting, []
        return batch

    def _overdue(self) -> None:
        with self._lock:
            batch = self._take()
        if batch:
            self._send(batch)

    def _send(self, batch: list[tuple[Future[Any], dict[str, Any]]]) -> None:
        batch = [(future, given) for future, given in batch if not future.cancelled()]
        if not batch:
            return
        lists = {name: [given[name] for _, given in batch] for name in batch[0][1]}
        futures = [future for future, _ in batch]
        try:
            input = Attended(self._pool, self._method.name, (), lists, self._pool.monitor)
        except Exception as error:
            _fail(futures, error)
            return
        input.future.add_done_callback(lambda whole: self._deal_out(futures, whole))

        def on_leaving(_: Future[Any]) -> None:
            if all(future.cancelled() for future in futures):
                input.future.cancel()  # one alone can't be interrupted; all of them can

        for future in futures:
            future.add_done_callback(on_leaving)
        self._pool.submit(input)

    def _deal_out(self, futures: list[Future[Any]], whole: Future[Any]) -> None:
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
                    f"{self._pool.name}.{self._method.name} got a batch of {len(futures)} and "
                    f"returned {got}: a @batched method returns a list with one element per input"
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
            pass  # this caller has left


def _settle(future: Future[Any], value: Any) -> None:
    try:
        future.set_result(value)
    except InvalidStateError:
        pass  # this caller has left
