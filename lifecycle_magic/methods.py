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
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from lifecycle_magic.calling import calls, streams
from lifecycle_magic.calling.aside import aside
from lifecycle_magic.calling.attended import AsyncioWatcher, Attended, Spawned
from lifecycle_magic.calling.batching import Batcher
from lifecycle_magic.calling.function_call import FunctionCall
from lifecycle_magic.calling.many_inputs import Asked, ManyInputs
from lifecycle_magic.calling.mapping import Mapping
from lifecycle_magic.calling.way import Way
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.sigint import deferred

if TYPE_CHECKING:
    from lifecycle_magic.pools.pool import Pool
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

    @property
    def map(self) -> Way:
        """The values for each input, lazily."""
        return self._many.map

    @property
    def starmap(self) -> Way:
        """`map` for inputs that are tuples of arguments."""
        return self._many.starmap

    @property
    def for_each(self) -> Way:
        """Run the method for each input, and drop the values."""
        return self._many.for_each

    @functools.cached_property  # most handles make one call, and shall not wait for this
    def _many(self) -> ManyInputs:
        return ManyInputs(self._where, self._pool, self._find, self._mapping, self._no_generator)

    def _mapping(self, pool: Pool, asked: Asked) -> Mapping:
        return Mapping(
            pool,
            self._name,
            ordered=asked.ordered,
            return_exceptions=asked.return_exceptions,
            submit=self._batcher(pool).submit if self._spec.batched else None,
        )

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
