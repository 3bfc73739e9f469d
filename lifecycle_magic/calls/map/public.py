"""The public calls ``.map``, ``.starmap`` and ``.for_each``.

A call's arguments mean the same for a thread and for a coroutine: `_map`, `_starmap` and
`_for_each` turn them into one request for both. `ManyInputs` then takes the results from a
`lifecycle_magic.calls.map.mapping.MapRun`, in a loop or in an ``async for``. It shows the progress,
and a caller that leaves the loop early leaves nothing running.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lifecycle_magic.callers.internal_frames import hidden
from lifecycle_magic.callers.with_aio import CallWithAio
from lifecycle_magic.calls.async_generators import EitherItems
from lifecycle_magic.calls.map.mapping import Arguments, MapRun
from lifecycle_magic.calls.map.progress_bar import Shown, length, nothing_shown, shown_progress
from lifecycle_magic.modal_api.table import check_keywords

if TYPE_CHECKING:
    from lifecycle_magic.pool.pool import Pool

__all__ = ["ManyInputs", "MapRequest"]


@dataclass(frozen=True)
class MapRequest:
    """What one call asks for. ``total`` is the number of inputs, or `UNKNOWN`; ``progress`` shows
    how many of them have a result.

    The inputs are the rows of ``columns``, which for coroutines may also be async iterables. With
    ``unpack`` they are the tuples of arguments in the only column. ``kwargs`` are added to each.
    """

    columns: tuple[Any, ...]
    kwargs: dict[str, Any]
    total: float
    ordered: bool
    return_exceptions: bool
    unpack: bool = False
    progress: bool = True

    def inputs(self) -> Iterator[Arguments]:
        """Return each input's arguments. Raises `TypeError` at once if a column is not iterable."""
        kwargs = self.kwargs
        for number, column in enumerate(self.columns, 1):
            if not isinstance(column, Iterable) and not hasattr(column, "__getitem__"):
                raise TypeError(
                    f"argument {number} is {column!r:.60}, and {type(column).__name__!r} object is "
                    "not iterable. Fix: give a list or another iterable of inputs"
                )
        rows = zip(*self.columns, strict=False)
        if self.unpack:
            return ((tuple(args), kwargs) for (args,) in rows)
        return ((args, kwargs) for args in rows)

    def inputs_async(self) -> Iterator[Arguments] | AsyncIterator[Arguments]:
        """Return each input's arguments, as an async iterator if a column is one."""
        if any(hasattr(column, "__aiter__") for column in self.columns):
            return self._inputs_async()
        return self.inputs()

    def close(self) -> None:
        """Close the generators among the columns."""
        for column in self.columns:
            if isinstance(column, Generator | EitherItems):
                column.close()

    async def close_async(self) -> None:
        """Close the generators among the columns, of both kinds."""
        self.close()
        for column in self.columns:
            if hasattr(column, "aclose"):
                await column.aclose()

    async def _inputs_async(self) -> AsyncIterator[Arguments]:
        async for row in _zip_async(self.columns):
            yield tuple(row[0]) if self.unpack else row, self.kwargs


# --- the arguments of the calls: these docstrings are what the user sees ------------------------


_OPTIONS = ("kwargs", "order_outputs", "return_exceptions", "progress")


def _map(
    *iterables: Any,
    kwargs: dict[str, Any] | None = None,
    order_outputs: bool = True,
    return_exceptions: bool = False,
    progress: bool = True,
    **of_modal: object,
) -> MapRequest:
    """Call the method for each input, and return an iterator over the values.

    Several iterables give several arguments, as with the builtin ``map``; in ``.map.aio`` they may
    be async iterables. ``kwargs`` are passed with every input. The values come in the order of the
    inputs, or with ``order_outputs=False`` as they arrive. An exception is raised when its input's
    turn comes, and ends the map; with ``return_exceptions=True`` it is returned as a value.

    Inputs are read lazily, at most 1,000 inputs or 256 MiB ahead, and copied: an array may be
    reused for the next input. If the map takes more than half a second, a notebook shows its
    progress below the cell and a terminal a bar; ``progress=False`` turns that off.

    >>> list(model.predict.map([1, 2, 3]))  # doctest: +SKIP
    """
    if of_modal:
        check_keywords("Function.map", of_modal, _OPTIONS)
    total = min(map(length, iterables), default=0)
    return MapRequest(
        iterables, kwargs or {}, total, order_outputs, return_exceptions, progress=progress
    )


def _starmap(
    input_iterator: Any,
    *,
    kwargs: dict[str, Any] | None = None,
    order_outputs: bool = True,
    return_exceptions: bool = False,
    progress: bool = True,
    **of_modal: object,
) -> MapRequest:
    """Call the method for each tuple of arguments, and return an iterator over the values.

    The options are those of ``map``.

    >>> list(model.add.starmap([(1, 2), (3, 4)]))  # doctest: +SKIP
    """
    if of_modal:
        check_keywords("Function.starmap", of_modal, _OPTIONS)
    return MapRequest(
        (input_iterator,),
        kwargs or {},
        length(input_iterator),
        order_outputs,
        return_exceptions,
        unpack=True,
        progress=progress,
    )


def _for_each(
    *iterables: Any,
    kwargs: dict[str, Any] | None = None,
    ignore_exceptions: bool = False,
    progress: bool = True,
) -> MapRequest:
    """Run the method for each input, wait for all of them and drop their values.

    Raises the first exception, unless ``ignore_exceptions`` is set. Other options are those of
    ``map``.

    >>> model.index.for_each(paths)  # doctest: +SKIP
    """
    return _map(
        *iterables,
        kwargs=kwargs,
        order_outputs=False,
        return_exceptions=ignore_exceptions,
        progress=progress,
    )


class ManyInputs:
    """The calls of one method with many inputs: ``map``, ``starmap`` and ``for_each``.

    ``pool``, or for a coroutine ``find``, returns the pool, and ``begin`` starts a `MapRun` there.
    ``check`` gets the call's name and the name of its equivalent for generators, and raises if the
    method does not support it. ``where`` is the label of the progress that is shown.
    """

    def __init__(
        self,
        where: str,
        pool: Callable[[], Pool],
        find: Callable[[], Awaitable[Pool]],
        begin: Callable[[Pool, MapRequest], MapRun],
        check: Callable[[str, str], None],
    ) -> None:
        self._where = where
        self._pool = pool
        self._find = find
        self._begin = begin
        self._check = check
        self.map = self._iterated(_map)
        self.starmap = self._iterated(_starmap)
        self.for_each = self._awaited(_for_each)

    def _iterated(self, ask: Callable[..., MapRequest]) -> CallWithAio:
        """Return a call whose caller iterates over the results."""

        def call(*given: Any, **options: Any) -> Iterator[Any]:
            return self._results(ask(*given, **options))

        def call_async(*given: Any, **options: Any) -> AsyncIterator[Any]:
            return self._results_async(ask(*given, **options))

        return _way(ask, call, call_async)

    def _awaited(self, ask: Callable[..., MapRequest]) -> CallWithAio:
        """Return a call whose caller waits until all inputs have run."""

        def call(*given: Any, **options: Any) -> None:
            for _ in self._results(ask(*given, **options)):
                pass

        async def call_async(*given: Any, **options: Any) -> None:
            with hidden:
                async for _ in self._results_async(ask(*given, **options)):
                    pass

        return _way(ask, call, call_async)

    # A mistake is raised by the call, not by the first step of the loop. Therefore these two are
    # not generators themselves.

    def _results(self, request: MapRequest) -> Iterator[Any]:
        inputs = request.inputs()
        self._check("map", "remote_gen")
        return self._taken(request, inputs)

    def _results_async(self, request: MapRequest) -> AsyncIterator[Any]:
        inputs = request.inputs_async()
        self._check("map.aio", "remote_gen.aio")
        return self._taken_async(request, inputs)

    def _taken(self, request: MapRequest, inputs: Iterable[Arguments]) -> Iterator[Any]:
        with hidden:
            mapping = self._begin(self._pool(), request)
            try:
                mapping.feed(inputs)
                with self._shown(request, mapping) as advance:
                    for value in mapping.results():
                        advance(value)
                        yield value
            finally:
                try:
                    mapping.close()
                except KeyboardInterrupt:  # a second one, before the first close had done anything
                    mapping.close()
                    raise
                if mapping.is_deadlocked:
                    request.close()

    def _shown(self, request: MapRequest, mapping: MapRun) -> Shown:
        if not request.progress:
            return nothing_shown()
        errors = request.return_exceptions
        return shown_progress(self._where, request.total, mapping.pool, counts_errors=errors)

    async def _taken_async(
        self, request: MapRequest, inputs: Iterable[Arguments] | AsyncIterator[Arguments]
    ) -> AsyncIterator[Any]:
        with hidden:
            mapping = self._begin(await self._find(), request)
            feeder: asyncio.Future[None] | None = None
            try:
                if isinstance(inputs, AsyncIterator):
                    feeder = asyncio.ensure_future(mapping.feed_async(inputs))
                else:
                    mapping.feed(inputs)  # on a thread: it may block, and the loop must not
                with self._shown(request, mapping) as advance:
                    async for value in mapping.results_async():
                        advance(value)
                        yield value
            finally:
                if feeder is not None:
                    feeder.cancel()
                mapping.close()
                if mapping.is_deadlocked:
                    await request.close_async()


def _way(ask: Callable[..., Any], call: Callable[..., Any], aio: Callable[..., Any]) -> CallWithAio:
    """Return a way that shows the docstring and the parameters of ``ask``."""
    call.__doc__ = aio.__doc__ = ask.__doc__
    call.__wrapped__ = ask  # type: ignore[attr-defined] # where inspect looks for a signature
    return CallWithAio(call, aio)


async def _zip_async(iterables: tuple[Any, ...]) -> AsyncIterator[tuple[Any, ...]]:
    """Return the rows of iterables of both kinds, like `zip`."""
    sources = [
        source.__aiter__() if hasattr(source, "__aiter__") else iter(source) for source in iterables
    ]
    while True:
        row = []
        for source in sources:
            try:
                if hasattr(source, "__anext__"):
                    row.append(await source.__anext__())
                else:
                    row.append(next(source))
            except (StopIteration, StopAsyncIteration):
                return
        yield tuple(row)
