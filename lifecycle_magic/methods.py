"""A method of an instance that lives in containers, and every way to call it.

    .remote(...)       its value, or for ``async def`` a `FunctionCall`
    .remote_gen(...)   the items that a generator method yields
    .map .starmap      many inputs, lazily; .for_each for methods whose value nobody wants
    .spawn(...)        a `FunctionCall` at once
    .local(...)        here, in this process
    .web_url           where a method answers HTTP that is called so, and not in the other ways

All but ``local`` have a twin for coroutines, ``.aio``.
"""

from __future__ import annotations

import asyncio
import operator
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from lifecycle_magic import calls, streams
from lifecycle_magic.aside import aside
from lifecycle_magic.attended import AsyncioWatcher, Attended, Spawned
from lifecycle_magic.batching import Batcher
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.function_call import FunctionCall
from lifecycle_magic.mapping import Arguments, Mapping
from lifecycle_magic.sigint import deferred
from lifecycle_magic.way import Way

if TYPE_CHECKING:
    from lifecycle_magic.pool import Pool
    from lifecycle_magic.spec import MethodSpec
    from lifecycle_magic.web.site import Served


class PlainRemote(Way):
    """``.remote`` of an ordinary ``def``: the shortest way, for it is the one that is measured."""

    __slots__ = ("_name", "_pool")

    def __init__(self, pool: Callable[[], Pool], name: str, aio: Callable[..., Any]) -> None:
        super().__init__(self.__call__, aio)
        self._pool = pool
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the method in a warm container and return its value."""
        __tracebackhide__ = True
        return calls.call(self._pool(), self._name, args, kwargs)


class Method:
    """One method of one instance. ``pool`` finds the containers, which may take as long as it takes
    to build an image; ``ready`` returns them if they were found before. ``here`` makes the local
    instance, ``address`` opens the address of a web method.
    """

    def __init__(
        self,
        spec: MethodSpec,
        where: str,
        pool: Callable[[], Pool],
        here: Callable[[], Any],
        here_async: Callable[[], Any],
        ready: Callable[[], Pool | None] = lambda: None,
        address: Callable[[str], Served] | None = None,
    ) -> None:
        self._spec = spec
        self._where = where
        self._pool = pool
        self._here = here
        self._here_async = here_async
        self._ready = ready
        self._address = address
        self._name = spec.name
        plain = not (spec.is_async or spec.is_generator or spec.batched or spec.web)
        self.remote: Way = (
            PlainRemote(pool, spec.name, self._remote_aio)
            if plain
            else Way(self._remote, self._remote_aio)
        )
        self.remote_gen = Way(self._remote_gen, self._remote_gen_aio)
        self.spawn = Way(self._spawn, self._spawn_aio)
        self.map = Way(self._map, self._map_aio)
        self.starmap = Way(self._starmap, self._starmap_aio)
        self.for_each = Way(self._for_each, self._for_each_aio)
        self.__name__ = spec.name
        self.__signature__ = spec.signature

    # --- one input -------------------------------------------------------------------------

    def _remote(self, *args: Any, **kwargs: Any) -> Any:
        """Run the method in a warm container; its value, or for ``async def`` its call."""
        __tracebackhide__ = True
        self._no_generator("remote", "remote_gen")
        started: FunctionCall = self._spawn(*args, **kwargs)
        if self._spec.is_async:
            return started
        try:
            return started.get()
        except KeyboardInterrupt:
            started.cancel()  # it may have come before there was anything to interrupt
            raise

    async def _remote_aio(self, *args: Any, **kwargs: Any) -> Any:
        """Run the method and await its value; cancelling it interrupts the method."""
        __tracebackhide__ = True
        self._no_generator("remote.aio", "remote_gen.aio")
        pool = await self._find()
        if self._spec.batched:
            future = self._submit(self._batcher(pool).submit, args, kwargs)
        else:
            watcher = AsyncioWatcher(asyncio.get_running_loop())
            input = Attended(pool, self._name, args, kwargs, watcher)
            future = self._submit(input.submitted)
        return await asyncio.wrap_future(future)

    def _spawn(self, *args: Any, **kwargs: Any) -> FunctionCall:
        """Start the call and return at once, with a `FunctionCall` to `get` the value from."""
        self._no_generator("spawn", "remote_gen")
        return self._start(self._pool(), args, kwargs)

    async def _spawn_aio(self, *args: Any, **kwargs: Any) -> FunctionCall:
        """The same for coroutines: an image that is to be built first blocks no event loop."""
        self._no_generator("spawn.aio", "remote_gen.aio")
        return self._start(await self._find(), args, kwargs)

    async def _find(self) -> Pool:
        """The pool, found on a thread if that may take long."""
        pool = self._ready()
        return pool if pool is not None else await aside(self._pool)

    def _start(self, pool: Pool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> FunctionCall:
        if self._spec.batched:
            future = self._submit(self._batcher(pool).submit, args, kwargs)
        else:
            future = self._submit(Spawned(pool, self._name, args, kwargs).submitted)
        return FunctionCall(future, self._where)

    def _submit(self, submit: Callable[..., Future[Any]], *given: Any) -> Future[Any]:
        """``submit(*given)``, of which SIGINT leaves nothing half done, and nothing running."""
        future: Future[Any] | None = None
        try:
            with deferred():
                future = submit(*given)
        except KeyboardInterrupt:
            if future is not None:
                future.cancel()
            raise
        return future

    def _batcher(self, pool: Pool) -> Batcher:
        # The pool's, not this handle's: callers with handles of their own fill batches together.
        key = (self._name, self._spec.batched, str(self._spec.signature))
        batcher: Batcher | None = pool.batchers.get(key)
        if batcher is None:
            made = Batcher(pool, self._spec)
            batcher = pool.batchers.setdefault(key, made)
        return batcher

    # --- generators ------------------------------------------------------------------------

    def _remote_gen(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """The items that the method yields, as they come. Leaving the loop closes it there."""
        self._only_generator("remote_gen")
        return streams.stream(self._pool(), self._name, args, kwargs)

    def _remote_gen_aio(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """The same for ``async for``."""
        self._only_generator("remote_gen.aio")
        return streams.stream_async(self._find, self._name, args, kwargs)

    # --- many inputs -----------------------------------------------------------------------

    def _map(
        self,
        *iterables: Iterable[Any],
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        progress: bool = True,
    ) -> Iterator[Any]:
        """The values for each input, in the order of the inputs, or as they come.

        Several iterables give several arguments, as with the builtin. ``kwargs`` go with every
        input. With ``return_exceptions`` an exception is a value; without it, it is raised when
        it is its input's turn and ends the map. Inputs are taken lazily, at most 1,000 or 256 MiB
        ahead, and copied: an array may be used again for the next. A progress bar appears when
        the number of inputs is known and it takes more than half a second.
        """
        given = kwargs or {}
        inputs = ((args, given) for args in zip(*iterables, strict=False))
        total = min(map(_length, iterables), default=0)
        return self._run(inputs, total, order_outputs, return_exceptions, progress)

    def _starmap(
        self,
        inputs: Iterable[Iterable[Any]],
        *,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        progress: bool = True,
    ) -> Iterator[Any]:
        """`map` for inputs that are tuples of arguments."""
        given = kwargs or {}
        return self._run(
            ((tuple(args), given) for args in inputs),
            _length(inputs),
            order_outputs,
            return_exceptions,
            progress,
        )

    def _for_each(
        self,
        *iterables: Iterable[Any],
        kwargs: dict[str, Any] | None = None,
        ignore_exceptions: bool = False,
        progress: bool = True,
    ) -> None:
        """Run the method for each input and wait for all of them; their values are dropped."""
        for _ in self._map(
            *iterables,
            kwargs=kwargs,
            order_outputs=False,
            return_exceptions=ignore_exceptions,
            progress=progress,
        ):
            pass

    def _run(
        self,
        inputs: Iterable[Arguments],
        total: float,
        ordered: bool,
        return_exceptions: bool,
        progress: bool,
    ) -> Iterator[Any]:
        self._no_generator("map", "remote_gen")
        return self._results(inputs, total, ordered, return_exceptions, progress)

    def _results(
        self,
        inputs: Iterable[Arguments],
        total: float,
        ordered: bool,
        return_exceptions: bool,
        progress: bool,
    ) -> Iterator[Any]:
        mapping = self._mapping(self._pool(), ordered, return_exceptions)
        try:
            mapping.feed(inputs)
            with _bar(self._where, total if progress else _UNKNOWN) as advance:
                for value in mapping.results():
                    advance()
                    yield value
        finally:
            try:
                mapping.close()
            except KeyboardInterrupt:  # a second one, before it had done anything
                mapping.close()
                raise

    def _mapping(self, pool: Pool, ordered: bool, return_exceptions: bool) -> Mapping:
        batcher = self._batcher(pool) if self._spec.batched else None
        return Mapping(
            pool,
            self._name,
            ordered=ordered,
            return_exceptions=return_exceptions,
            submit=batcher.submit if batcher is not None else None,
        )

    def _map_aio(
        self,
        *iterables: Any,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        progress: bool = True,
    ) -> AsyncIterator[Any]:
        """`map` for coroutines; the iterables may be async ones too."""
        given = kwargs or {}
        total = min(map(_length, iterables), default=0)
        inputs: Any
        if any(hasattr(one, "__aiter__") for one in iterables):
            inputs = ((args, given) async for args in _zip_async(iterables))
        else:
            inputs = ((args, given) for args in zip(*iterables, strict=False))
        return self._run_aio(inputs, total, order_outputs, return_exceptions, progress)

    def _starmap_aio(
        self,
        inputs: Any,
        *,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        progress: bool = True,
    ) -> AsyncIterator[Any]:
        """`starmap` for coroutines."""
        given = kwargs or {}
        pairs: Any
        if hasattr(inputs, "__aiter__"):
            pairs = ((tuple(args), given) async for args in inputs)
        else:
            pairs = ((tuple(args), given) for args in inputs)
        return self._run_aio(pairs, _length(inputs), order_outputs, return_exceptions, progress)

    async def _for_each_aio(
        self,
        *iterables: Any,
        kwargs: dict[str, Any] | None = None,
        ignore_exceptions: bool = False,
        progress: bool = True,
    ) -> None:
        """`for_each` for coroutines."""
        async for _ in self._map_aio(
            *iterables,
            kwargs=kwargs,
            order_outputs=False,
            return_exceptions=ignore_exceptions,
            progress=progress,
        ):
            pass

    def _run_aio(
        self,
        inputs: AsyncIterator[Arguments] | Iterable[Arguments],
        total: float,
        ordered: bool,
        return_exceptions: bool,
        progress: bool,
    ) -> AsyncIterator[Any]:
        self._no_generator("map.aio", "remote_gen.aio")
        return self._results_aio(inputs, total, ordered, return_exceptions, progress)

    async def _results_aio(
        self,
        inputs: AsyncIterator[Arguments] | Iterable[Arguments],
        total: float,
        ordered: bool,
        return_exceptions: bool,
        progress: bool,
    ) -> AsyncIterator[Any]:
        mapping = self._mapping(await self._find(), ordered, return_exceptions)
        feeder: asyncio.Future[None] | None = None
        try:
            if isinstance(inputs, AsyncIterator):
                feeder = asyncio.ensure_future(mapping.feed_async(inputs))
            else:
                mapping.feed(inputs)  # on a thread: it may block, and the loop must not
            with _bar(self._where, total if progress else _UNKNOWN) as advance:
                async for value in mapping.results_async():
                    advance()
                    yield value
        finally:
            if feeder is not None:
                feeder.cancel()
            mapping.close()

    # --- here ------------------------------------------------------------------------------

    def local(self, *args: Any, **kwargs: Any) -> Any:
        """Run the method in this process, on an instance of its own.

        ``enter`` runs once, on first use; ``exit`` never. An ``async def`` method is to be awaited.
        """
        if self._spec.is_async and not self._spec.is_generator:
            return self._local_async(args, kwargs)
        return getattr(self._here(), self._name)(*args, **kwargs)

    async def _local_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return await getattr(await self._here_async(), self._name)(*args, **kwargs)

    # --- over HTTP -------------------------------------------------------------------------

    @property
    def web_url(self) -> str:
        """The address at which the method answers; it is open from now on.

        Raises `InvalidError` for a method that does not answer HTTP.
        """
        return self._served().url

    def get_web_url(self) -> str:
        """The same as a call, as Modal has it."""
        return self._served().url

    @property
    def web_token(self) -> str | None:
        """The bearer token that the address asks for, with ``requires_proxy_auth=True``."""
        return self._served().token

    def _served(self) -> Served:
        if self._spec.web is None or self._address is None:
            raise InvalidError(
                f"{self._where} has no address: it is called with .remote(); to have it answer "
                "HTTP, write @fastapi_endpoint() in the place of @method()"
            )
        return self._address(self._name)

    # --- the wrong way ---------------------------------------------------------------------

    def _no_web(self, way: str) -> None:
        if self._spec.web is not None:
            raise InvalidError(
                f"{self._where} answers HTTP, not .{way}(): ask for its address with "
                f"{self._where}.get_web_url(), or call {self._where}.local(...)"
            )

    def _no_generator(self, way: str, right: str) -> None:
        self._no_web(way)
        if self._spec.is_generator:
            raise InvalidError(
                f"{self._where} yields its values, so .{way}() has nothing to return: "
                f"iterate over {self._where}.{right}(...)"
            )

    def _only_generator(self, way: str) -> None:
        self._no_web(way)
        if not self._spec.is_generator:
            right = way.replace("remote_gen", "remote")
            raise InvalidError(
                f"{self._where} does not yield, so there is nothing to iterate over with "
                f".{way}(): call {self._where}.{right}(...)"
            )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise InvalidError(
            f"{self._where}(...) does not say where to run: "
            f"write {self._where}.remote(...) or {self._where}.local(...)"
        )

    def __repr__(self) -> str:
        return f"<method {self._where}{self._spec.signature}>"


_UNKNOWN = float("inf")


def _length(inputs: Any) -> float:
    """How many inputs there are, where they can tell."""
    try:
        return len(inputs)
    except TypeError:
        return operator.length_hint(inputs, 0) or _UNKNOWN


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


def _somebody_looks() -> bool:
    """Whether standard error is a terminal or a notebook."""
    if sys.stderr is None:
        return False
    if sys.stderr.isatty():
        return True
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


class _bar:  # a context manager that reads like a function
    """A progress bar, or nothing where the number of inputs is not known."""

    def __init__(self, where: str, total: float) -> None:
        self._bar: Any = None
        if total != _UNKNOWN and _somebody_looks():
            from tqdm.std import tqdm

            class Bar(tqdm):  # type: ignore[type-arg]  # generic in its stubs alone
                monitor_interval = 0  # no thread of its own

            # As text, not as a widget: a saved notebook holds no widget state because of it.
            self._bar = Bar(total=int(total), desc=where, delay=0.5, leave=False)

    def __enter__(self) -> Callable[[], Any]:
        return self._bar.update if self._bar is not None else lambda: None

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.close()
