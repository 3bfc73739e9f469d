"""``.map``, ``.starmap`` and ``.for_each`` of another class, from inside a container.

At most `WINDOW` inputs are on their way at a time. The pool in the kernel spreads them over its
containers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from lifecycle_magic.callers.internal_frames import hidden
from lifecycle_magic.callers.with_aio import CallWithAio
from lifecycle_magic.guest.answers import Wait
from lifecycle_magic.guest.session_connection import Answer
from lifecycle_magic.wire.frames import Kind

if TYPE_CHECKING:
    from lifecycle_magic.guest.foreign_calls import ForeignCall

    Start = Callable[[tuple[Any, ...], dict[str, Any]], ForeignCall]
    Arguments = tuple[tuple[Any, ...], dict[str, Any]]

__all__ = ["ManyForeignCalls"]

WINDOW = 256
"""Inputs that are sent before the first of them has returned."""

_DONE = Answer(Kind.END)


class ManyForeignCalls:
    """The calls of one method with many inputs. ``start`` starts one of them.

    The arguments mean what they mean in the kernel; see `lifecycle_magic.calls.map.public`.
    ``progress`` is accepted: there is no bar inside a container.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self.map = CallWithAio(self._map, self._map_aio)
        self.starmap = CallWithAio(self._starmap, self._starmap_aio)
        self.for_each = CallWithAio(self._for_each, self._for_each_aio)

    def _map(
        self,
        *iterables: Any,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        progress: bool = True,
    ) -> Iterator[Any]:
        """Call the method for each input, and return an iterator over the values."""
        rows = _rows(iterables, kwargs or {}, unpack=False)
        return _Run(self._start, order_outputs, return_exceptions).results(rows)

    def _starmap(
        self,
        inputs: Any,
        *,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        progress: bool = True,
    ) -> Iterator[Any]:
        """Call the method for each tuple of arguments, and return an iterator over the values."""
        rows = _rows((inputs,), kwargs or {}, unpack=True)
        return _Run(self._start, order_outputs, return_exceptions).results(rows)

    def _for_each(
        self,
        *iterables: Any,
        kwargs: dict[str, Any] | None = None,
        ignore_exceptions: bool = False,
        progress: bool = True,
    ) -> None:
        """Run the method for each input, wait for all of them and drop their values."""
        rows = _rows(iterables, kwargs or {}, unpack=False)
        for _ in _Run(self._start, False, ignore_exceptions).results(rows):
            pass

    def _map_aio(
        self,
        *iterables: Any,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        progress: bool = True,
    ) -> AsyncIterator[Any]:
        """Call the method for each input, and return an asynchronous iterator over the values."""
        rows = _rows_async(iterables, kwargs or {}, unpack=False)
        return _Run(self._start, order_outputs, return_exceptions).results_async(rows)

    def _starmap_aio(
        self,
        inputs: Any,
        *,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        progress: bool = True,
    ) -> AsyncIterator[Any]:
        """Call the method for each tuple of arguments, for coroutines."""
        rows = _rows_async((inputs,), kwargs or {}, unpack=True)
        return _Run(self._start, order_outputs, return_exceptions).results_async(rows)

    async def _for_each_aio(
        self,
        *iterables: Any,
        kwargs: dict[str, Any] | None = None,
        ignore_exceptions: bool = False,
        progress: bool = True,
    ) -> None:
        """Run the method for each input and drop the values, for coroutines."""
        rows = _rows_async(iterables, kwargs or {}, unpack=False)
        async for _ in _Run(self._start, False, ignore_exceptions).results_async(rows):
            pass


class _Run:
    """One map: the calls that run, in the order of their inputs, and those that have ended."""

    def __init__(self, start: Start, ordered: bool, return_exceptions: bool) -> None:
        self._start = start
        self._ordered = ordered
        self._return_exceptions = return_exceptions
        self._running: dict[ForeignCall, None] = {}
        self._ended: deque[ForeignCall] = deque()
        self._on_end: Callable[[], object] = lambda: None

    def _begin(self, row: Arguments) -> None:
        call = self._start(*row)
        self._running[call] = None

        def on_end(_: object) -> None:
            self._ended.append(call)
            self._on_end()

        call._future.add_done_callback(on_end)

    def _next(self) -> ForeignCall | None:
        """Return the call whose value comes next, if it has ended."""
        if self._ordered:
            first = next(iter(self._running), None)
            return first if first is not None and first.done() else None
        return self._ended.popleft() if self._ended else None

    def _take(self, call: ForeignCall) -> Any:
        del self._running[call]
        try:
            return call.get(0)
        except Exception as error:
            if not self._return_exceptions:
                raise
            return error

    def _cancel(self) -> None:
        for call in self._running:
            call.cancel()

    def results(self, rows: Iterator[Arguments]) -> Iterator[Any]:
        """Yield the values."""
        with hidden:
            is_over = False
            try:
                while True:
                    while (call := self._next()) is None and not is_over:
                        if len(self._running) >= WINDOW:
                            break
                        row = next(rows, None)
                        is_over = row is None
                        if row is not None:
                            self._begin(row)
                    if call is not None:
                        yield self._take(call)
                        continue
                    if not self._running:
                        return
                    waiting = Wait()
                    self._on_end = lambda waiting=waiting: waiting.receive(_DONE)  # type: ignore[misc]
                    if self._next_is_running():
                        waiting.wait()
            finally:
                self._cancel()

    def _next_is_running(self) -> bool:
        """Return whether no value can be taken yet."""
        if self._ordered:
            return not next(iter(self._running)).done()
        return not self._ended

    async def results_async(self, rows: AsyncIterator[Arguments]) -> AsyncIterator[Any]:
        """Yield the values, without blocking the event loop."""
        import asyncio

        with hidden:
            loop = asyncio.get_running_loop()
            ended = asyncio.Event()
            self._on_end = lambda: loop.call_soon_threadsafe(ended.set)
            is_over = False
            try:
                while True:
                    while (call := self._next()) is None and not is_over:
                        if len(self._running) >= WINDOW:
                            break
                        try:
                            row = await rows.__anext__()
                        except StopAsyncIteration:
                            is_over = True
                        else:
                            self._begin(row)
                    if call is not None:
                        yield self._take(call)
                        continue
                    if not self._running:
                        return
                    await ended.wait()
                    ended.clear()
            finally:
                self._cancel()


def _rows(columns: tuple[Any, ...], kwargs: dict[str, Any], *, unpack: bool) -> Iterator[Arguments]:
    """Return each input's arguments. Raises `TypeError` at once if a column is not iterable."""
    for number, column in enumerate(columns, 1):
        if not isinstance(column, Iterable) and not hasattr(column, "__getitem__"):
            raise TypeError(
                f"argument {number} is {column!r:.60}, and {type(column).__name__!r} object is "
                "not iterable. Fix: give a list or another iterable of inputs"
            )
    rows = zip(*columns, strict=False)
    if unpack:
        return ((tuple(args), kwargs) for (args,) in rows)
    return ((args, kwargs) for args in rows)


def _rows_async(
    columns: tuple[Any, ...], kwargs: dict[str, Any], *, unpack: bool
) -> AsyncIterator[Arguments]:
    """Return each input's arguments. The columns may be async iterables."""
    if not any(hasattr(column, "__aiter__") for column in columns):
        return _each(_rows(columns, kwargs, unpack=unpack))
    return _zipped(columns, kwargs, unpack)


async def _each(rows: Iterator[Arguments]) -> AsyncIterator[Arguments]:
    for row in rows:
        yield row


async def _zipped(
    columns: tuple[Any, ...], kwargs: dict[str, Any], unpack: bool
) -> AsyncIterator[Arguments]:
    sources = [one.__aiter__() if hasattr(one, "__aiter__") else iter(one) for one in columns]
    while True:
        row = []
        for source in sources:
            try:
                is_async = hasattr(source, "__anext__")
                row.append(await source.__anext__() if is_async else next(source))
            except (StopIteration, StopAsyncIteration):
                return
        yield (tuple(row[0]) if unpack else tuple(row)), kwargs
