"""``.map``, ``.starmap`` and ``.for_each`` of a method, from the kernel.

`ManyInputs` takes the results from a `lifecycle_magic.calls.map.mapping.MapRun`, in a loop or in an
``async for``. It shows the progress, and a caller that leaves the loop early leaves nothing
running.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from lifecycle_magic.callers.internal_frames import hidden
from lifecycle_magic.callers.many_calls import Arguments, ManyCalls, MapRequest
from lifecycle_magic.calls.async_generators import EitherItems
from lifecycle_magic.calls.map.mapping import MapRun
from lifecycle_magic.calls.map.progress_bar import Shown, length, nothing_shown, shown_progress

if TYPE_CHECKING:
    from lifecycle_magic.pool.pool import Pool

__all__ = ["ManyInputs"]


class ManyInputs(ManyCalls):
    """The calls of one method with many inputs, from the kernel.

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
        super().__init__(self._begun, self._begun_async)
        self._where = where
        self._pool = pool
        self._find = find
        self._begin = begin
        self._check = check

    # A mistake is raised by the call, not by the first step of the loop. Therefore these two are
    # not generators themselves.

    def _begun(self, request: MapRequest) -> Iterator[Any]:
        inputs = request.inputs()
        self._check("map", "remote_gen")
        return self._taken(request, inputs)

    def _begun_async(self, request: MapRequest) -> AsyncIterator[Any]:
        inputs = request.inputs_async()
        self._check("map.aio", "remote_gen.aio")
        return self._taken_async(request, inputs)

    def _taken(self, request: MapRequest, inputs: Iterable[Arguments]) -> Iterator[Any]:
        with hidden:
            total = min(map(length, request.columns), default=0)
            mapping = self._begin(self._pool(), request)
            try:
                mapping.feed(inputs)
                with self._shown(request, total, mapping) as advance:
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
                    _close(request.columns)

    def _shown(self, request: MapRequest, total: float, mapping: MapRun) -> Shown:
        if not request.progress:
            return nothing_shown()
        errors = request.return_exceptions
        return shown_progress(self._where, total, mapping.pool, counts_errors=errors)

    async def _taken_async(
        self, request: MapRequest, inputs: Iterable[Arguments] | AsyncIterator[Arguments]
    ) -> AsyncIterator[Any]:
        with hidden:
            total = min(map(length, request.columns), default=0)
            mapping = self._begin(await self._find(), request)
            feeder: asyncio.Future[None] | None = None
            try:
                if isinstance(inputs, AsyncIterator):
                    feeder = asyncio.ensure_future(mapping.feed_async(inputs))
                else:
                    mapping.feed(inputs)  # on a thread: it may block, and the loop must not
                with self._shown(request, total, mapping) as advance:
                    async for value in mapping.results_async():
                        advance(value)
                        yield value
            finally:
                if feeder is not None:
                    feeder.cancel()
                mapping.close()
                if mapping.is_deadlocked:
                    await _close_async(request.columns)


def _close(columns: Iterable[Any]) -> None:
    """Close the generators among the columns."""
    for column in columns:
        if isinstance(column, Generator | EitherItems):
            column.close()


async def _close_async(columns: Iterable[Any]) -> None:
    """Close the generators among the columns, of both kinds."""
    _close(columns)
    for column in columns:
        if hasattr(column, "aclose"):
            await column.aclose()
