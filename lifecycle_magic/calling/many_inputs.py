"""``.map``, ``.starmap`` and ``.for_each``, from the side of whoever calls them.

What a call asks for is the same for a thread and for a coroutine: `_map`, `_starmap` and
`_for_each` read it from the call's arguments, once for both. `ManyInputs` then takes the results
from a `lifecycle_magic.calling.mapping.Mapping`, in a loop or in an ``async for``: it moves a
progress bar, and whoever leaves the loop early leaves nothing running.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lifecycle_magic.calling.bar import UNKNOWN, Bar, length
from lifecycle_magic.calling.mapping import Arguments, Mapping
from lifecycle_magic.calling.way import Way

if TYPE_CHECKING:
    from lifecycle_magic.pools.pool import Pool

__all__ = ["Asked", "ManyInputs"]


@dataclass(frozen=True)
class Asked:
    """What one call wants. ``total`` is the number of inputs, for the bar, or `UNKNOWN`.

    The inputs are the rows of ``columns``, which for coroutines may be async iterables too; or,
    with ``unpack``, what is in the one column: tuples of arguments. ``kwargs`` go with each.
    """

    columns: tuple[Any, ...]
    kwargs: dict[str, Any]
    total: float
    ordered: bool
    return_exceptions: bool
    unpack: bool = False

    def inputs(self) -> Iterator[Arguments]:
        """Each input's arguments. Raises `TypeError` at once if a column can't be iterated over."""
        kwargs = self.kwargs
        rows = zip(*self.columns, strict=False)
        if self.unpack:
            return ((tuple(args), kwargs) for (args,) in rows)
        return ((args, kwargs) for args in rows)

    def inputs_async(self) -> Iterator[Arguments] | AsyncIterator[Arguments]:
        """The same, and as an async iterator if a column is one."""
        if any(hasattr(column, "__aiter__") for column in self.columns):
            return self._inputs_async()
        return self.inputs()

    async def _inputs_async(self) -> AsyncIterator[Arguments]:
        async for row in _zip_async(self.columns):
            yield tuple(row[0]) if self.unpack else row, self.kwargs


# --- what the ways take: their docstrings are those that a user sees ----------------------------


def _map(
    *iterables: Any,
    kwargs: dict[str, Any] | None = None,
    order_outputs: bool = True,
    return_exceptions: bool = False,
    progress: bool = True,
) -> Asked:
    """The values for each input, in the order of the inputs, or as they come.

    Several iterables give several arguments, as with the builtin; in ``.map.aio`` they may be
    async ones. ``kwargs`` go with every input. With ``return_exceptions`` an exception is a value;
    without it, it is raised when it is its input's turn and ends the map. Inputs are taken lazily,
    at most 1,000 or 256 MiB ahead, and copied: an array may be used again for the next. A progress
    bar appears when the number of inputs is known and it takes more than half a second.
    """
    total = min(map(length, iterables), default=0) if progress else UNKNOWN
    return Asked(iterables, kwargs or {}, total, order_outputs, return_exceptions)


def _starmap(
    inputs: Any,
    *,
    kwargs: dict[str, Any] | None = None,
    order_outputs: bool = True,
    return_exceptions: bool = False,
    progress: bool = True,
) -> Asked:
    """`map` for inputs that are tuples of arguments."""
    total = length(inputs) if progress else UNKNOWN
    return Asked((inputs,), kwargs or {}, total, order_outputs, return_exceptions, unpack=True)


def _for_each(
    *iterables: Any,
    kwargs: dict[str, Any] | None = None,
    ignore_exceptions: bool = False,
    progress: bool = True,
) -> Asked:
    """Run the method for each input and wait for all of them; their values are dropped."""
    return _map(
        *iterables,
        kwargs=kwargs,
        order_outputs=False,
        return_exceptions=ignore_exceptions,
        progress=progress,
    )


class ManyInputs:
    """The ways to call one method with many inputs: ``map``, ``starmap`` and ``for_each``.

    ``pool``, or for a coroutine ``find``, finds the containers, and ``begin`` a `Mapping` there.
    ``check`` gets the way's name, and the name of the one for generators, and raises if the method
    can't be called so. ``where`` is what the bar is called.
    """

    def __init__(
        self,
        where: str,
        pool: Callable[[], Pool],
        find: Callable[[], Awaitable[Pool]],
        begin: Callable[[Pool, Asked], Mapping],
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

    def _iterated(self, ask: Callable[..., Asked]) -> Way:
        """The way whose caller iterates over the results."""

        def call(*given: Any, **options: Any) -> Iterator[Any]:
            return self._results(ask(*given, **options))

        def call_async(*given: Any, **options: Any) -> AsyncIterator[Any]:
            return self._results_async(ask(*given, **options))

        call.__doc__ = call_async.__doc__ = ask.__doc__
        return Way(call, call_async)

    def _awaited(self, ask: Callable[..., Asked]) -> Way:
        """The way whose caller waits until all is done."""

        def call(*given: Any, **options: Any) -> None:
            for _ in self._results(ask(*given, **options)):
                pass

        async def call_async(*given: Any, **options: Any) -> None:
            async for _ in self._results_async(ask(*given, **options)):
                pass

        call.__doc__ = call_async.__doc__ = ask.__doc__
        return Way(call, call_async)

    # A mistake is raised by the call, not by the first step of the loop: so these two are none of
    # the generators themselves.

    def _results(self, asked: Asked) -> Iterator[Any]:
        inputs = asked.inputs()
        self._check("map", "remote_gen")
        return self._taken(asked, inputs)

    def _results_async(self, asked: Asked) -> AsyncIterator[Any]:
        inputs = asked.inputs_async()
        self._check("map.aio", "remote_gen.aio")
        return self._taken_async(asked, inputs)

    def _taken(self, asked: Asked, inputs: Iterable[Arguments]) -> Iterator[Any]:
        mapping = self._begin(self._pool(), asked)
        try:
            mapping.feed(inputs)
            with Bar(self._where, asked.total) as advance:
                for value in mapping.results():
                    advance()
                    yield value
        finally:
            try:
                mapping.close()
            except KeyboardInterrupt:  # a second one, before it had done anything
                mapping.close()
                raise

    async def _taken_async(
        self, asked: Asked, inputs: Iterable[Arguments] | AsyncIterator[Arguments]
    ) -> AsyncIterator[Any]:
        mapping = self._begin(await self._find(), asked)
        feeder: asyncio.Future[None] | None = None
        try:
            if isinstance(inputs, AsyncIterator):
                feeder = asyncio.ensure_future(mapping.feed_async(inputs))
            else:
                mapping.feed(inputs)  # on a thread: it may block, and the loop must not
            with Bar(self._where, asked.total) as advance:
                async for value in mapping.results_async():
                    advance()
                    yield value
        finally:
            if feeder is not None:
                feeder.cancel()
            mapping.close()


async def _zip_async(iterables: tuple[Any, ...]) -> AsyncIterator[tuple[Any, ...]]:
    """`zip` over iterables of both kinds."""
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
