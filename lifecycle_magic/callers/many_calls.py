"""``.map``, ``.starmap`` and ``.for_each``: their arguments, wherever the caller is.

The arguments mean the same for a thread and for a coroutine, in a kernel and in a container:
`_map`, `_starmap` and `_for_each` turn them into one request for all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lifecycle_magic.callers.internal_frames import hidden
from lifecycle_magic.callers.with_aio import CallWithAio

__all__ = ["Arguments", "ManyCalls", "MapRequest"]

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""The arguments of one input."""


@dataclass(frozen=True)
class MapRequest:
    """The request of one call. ``progress`` shows how many of the inputs have a result.

    The inputs are the rows of ``columns``, which for coroutines may also be async iterables. With
    ``unpack`` they are the tuples of arguments in the only column. ``kwargs`` are added to each.
    """

    columns: tuple[Any, ...]
    kwargs: dict[str, Any]
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
            return ((_unpacked(args), kwargs) for (args,) in rows)
        return ((args, kwargs) for args in rows)

    def inputs_async(self) -> Iterator[Arguments] | AsyncIterator[Arguments]:
        """Return each input's arguments, as an async iterator if a column is one."""
        if any(hasattr(column, "__aiter__") for column in self.columns):
            return self._inputs_async()
        return self.inputs()

    async def _inputs_async(self) -> AsyncIterator[Arguments]:
        async for row in _zip_async(self.columns):
            yield _unpacked(row[0]) if self.unpack else row, self.kwargs


def _unpacked(arguments: Any) -> tuple[Any, ...]:
    """Return one input of ``.starmap`` as arguments. Raises `TypeError` for what holds none."""
    try:
        return tuple(arguments)
    except TypeError:
        raise TypeError(
            f".starmap got the input {arguments!r:.60}, which is no tuple of arguments. "
            "Fix: give tuples, or call .map(...)"
        ) from None


class ManyCalls:
    """The calls of one method with many inputs.

    ``results`` returns an iterator over the values of a request, and ``results_async`` an
    asynchronous one. Both raise a mistake in the request at once.
    """

    def __init__(
        self,
        results: Callable[[MapRequest], Iterator[Any]],
        results_async: Callable[[MapRequest], AsyncIterator[Any]],
    ) -> None:
        self._results = results
        self._results_async = results_async
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


def _way(ask: Callable[..., Any], call: Callable[..., Any], aio: Callable[..., Any]) -> CallWithAio:
    """Return a way that shows the docstring and the parameters of ``ask``."""
    call.__doc__ = aio.__doc__ = ask.__doc__
    call.__wrapped__ = ask  # type: ignore[attr-defined] # where inspect looks for a signature
    return CallWithAio(call, aio)


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
    _check("Function.map", of_modal)
    return MapRequest(iterables, kwargs or {}, order_outputs, return_exceptions, progress=progress)


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
    _check("Function.starmap", of_modal)
    return MapRequest(
        (input_iterator,),
        kwargs or {},
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


def _check(name: str, of_modal: dict[str, object]) -> None:
    """Raise for options that neither this package nor Modal has."""
    if of_modal:
        from lifecycle_magic.modal_api.table import check_keywords  # containers seldom need it

        check_keywords(name, of_modal, _OPTIONS)


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
