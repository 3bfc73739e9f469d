"""A method of an instance that runs in containers, and every way to call it.

    .remote(...)       its value; for ``async def`` inside an event loop, a call to ``await``
    .remote_gen(...)   the items that a generator method yields
    .map .starmap      many inputs, lazily; .for_each for methods whose values are not needed
    .spawn(...)        a `FunctionCall`, at once; .spawn_map starts many calls, without results
    .local(...)        a call in this process
    .web_url           the address of a method that answers HTTP, and is only called this way

All except ``local`` also exist for coroutines, as ``.aio``.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from lifecycle_magic.callers import wrong_form
from lifecycle_magic.callers.async_call import AsyncCall
from lifecycle_magic.callers.function_call import FunctionCall
from lifecycle_magic.callers.internal_frames import hidden
from lifecycle_magic.callers.many_calls import MapRequest
from lifecycle_magic.callers.with_aio import CallWithAio, with_thread
from lifecycle_magic.calls import async_generators, generators, sync
from lifecycle_magic.calls.batching import Batcher
from lifecycle_magic.calls.detached import AsyncioWatcher, AwaitableCall, DetachedCall, SpawnedCall
from lifecycle_magic.calls.map.mapping import MapRun
from lifecycle_magic.calls.map.public import ManyInputs
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.handles.call_forms import CallForm, Remote, SignedCall
from lifecycle_magic.modal_api.old_members import OLD_WAYS, old_way
from lifecycle_magic.modal_api.table import refuse, refuse_members
from lifecycle_magic.pool.autoscaler import current_stats
from lifecycle_magic.threads.blocking import run_in_thread
from lifecycle_magic.threads.futures import await_future
from lifecycle_magic.threads.sigint import deferred

if TYPE_CHECKING:
    from lifecycle_magic.pool.pool import Pool
    from lifecycle_magic.spec.class_spec import MethodSpec
    from lifecycle_magic.web.site import ServedAddress


LOCAL = """\
Run the method in this process, on an instance of its own.

``enter`` runs once, at the first use; ``exit`` never. An ``async def`` method is to be awaited.\
"""


class Method:
    """One method of one instance, with every way to call it. Its docstring is the user's own."""

    # ``spec`` returns the method's current declaration. ``pool`` finds the containers, which may
    # take as long as building an image; ``ready`` returns them if they were found before. ``here``
    # makes the local instance, ``address`` opens the address of a web method, ``reduced``
    # returns how the handle travels, as `__reduce__` does.
    def __init__(
        self,
        name: str,
        spec: Callable[[], MethodSpec],
        where: str,
        pool: Callable[[], Pool],
        here: Callable[[], Any],
        here_async: Callable[[], Any],
        ready: Callable[[], Pool | None] = lambda: None,
        address: Callable[[str], ServedAddress] | None = None,
        reduced: Callable[[], tuple[Any, ...]] | None = None,
    ) -> None:
        self._name = name
        self.reduced = reduced
        self._newest = spec
        self._where = where
        self._pool = pool
        self._here = here
        self._here_async = here_async
        self._ready = ready
        self._address = address
        self.remote: CallWithAio = Remote(self, self._remote_aio)
        self.remote_gen = CallForm(
            self,
            "Run the method in a warm container and iterate over what it yields.",
            "Run the method in a warm container and iterate over its items with ``async for``.",
            self._remote_gen,
            self._remote_gen_aio,
        )
        self.spawn = CallForm(
            self,
            "Start the call and return a `FunctionCall` at once.",
            "Start the call without blocking the event loop, and await its `FunctionCall`.",
            self._spawn,
            self._spawn_aio,
        )
        self.spawn_map = CallWithAio(self._spawn_map, self._spawn_map_aio)
        self.__name__ = name

    @property
    def _spec(self) -> MethodSpec:
        return self._newest()

    @property
    def __signature__(self) -> inspect.Signature:
        return self._spec.signature

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self._spec.doc

    # --- one input -------------------------------------------------------------------------

    def _remote(self, remote: Remote, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the method in a warm container and return its result.

        For an ``async def`` method inside a running event loop, return its call, to be awaited.
        """
        __tracebackhide__ = True
        self._no_generator("remote", "remote_gen")
        pool = self._pool()
        spec = self._spec  # not earlier, as finding the pool may have deployed a newer declaration
        if spec.is_plain:
            remote.keep(pool)
            return sync.call(pool, self._name, args, kwargs)
        self._no_generator("remote", "remote_gen")
        if spec.is_async and asyncio._get_running_loop() is not None:
            return self._start_awaitable(pool, args, kwargs)
        if not spec.batched:
            return sync.call(pool, self._name, args, kwargs)
        started = self._start(pool, args, kwargs)
        try:
            return started.get()
        except BaseException:
            started.cancel()  # the interrupt may have come before there was anything to interrupt
            raise

    async def _remote_aio(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method and await its result. Cancelling the wait interrupts the method."""
        __tracebackhide__ = True
        with hidden:
            self._no_generator("remote.aio", "remote_gen.aio")
            pool = await self._find()
            pool.deadlocks.check_wait(self._where, awaits=True)
            if self._spec.batched:
                future = self._submit(self._batcher(pool).submit, args, kwargs)
            else:
                watcher = AsyncioWatcher(asyncio.get_running_loop())
                input = DetachedCall(pool, self._name, args, kwargs, watcher)
                future = self._submit(input.submit)
            return await await_future(future)

    def _spawn(self, *args: Any, **kwargs: Any) -> FunctionCall[Any]:
        """Start the call and return a `FunctionCall` at once."""
        self._no_generator("spawn", "remote_gen")
        return self._start(self._pool(), args, kwargs)

    def _spawn_map(self, *iterables: Any, kwargs: dict[str, Any] | None = None) -> None:
        """Start a call for each input, as ``map`` takes them, and return at once.

        Results and exceptions are dropped.

        >>> model.index.spawn_map(paths)  # doctest: +SKIP
        """
        for args in zip(*iterables, strict=False):
            self._spawn(*args, **(kwargs or {}))

    async def _spawn_map_aio(self, *iterables: Any, kwargs: dict[str, Any] | None = None) -> None:
        for args in zip(*iterables, strict=False):
            await self._spawn_aio(*args, **(kwargs or {}))

    async def _spawn_aio(self, *args: Any, **kwargs: Any) -> FunctionCall[Any]:
        """Start the call without blocking the event loop, even if an image must be built first."""
        with hidden:
            self._no_generator("spawn.aio", "remote_gen.aio")
            return self._start(await self._find(), args, kwargs)

    async def _find(self) -> Pool:
        """Return the pool, found on a thread if that may take long."""
        pool = self._ready()
        return pool if pool is not None else await run_in_thread(self._pool)

    def _start(
        self,
        pool: Pool,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> FunctionCall[Any]:
        check_wait = pool.deadlocks.check_wait
        if self._spec.batched:
            future = self._submit(self._batcher(pool).submit, args, kwargs)
            return FunctionCall(future, self._where, check_wait)
        input = SpawnedCall(pool, self._name, args, kwargs)
        started: FunctionCall[Any] = FunctionCall(
            self._submit(input.submit), self._where, check_wait
        )
        started.set_number(input.id)
        return started

    def _start_awaitable(
        self, pool: Pool, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncCall:
        """Start a call that the caller is about to await."""
        check_wait = pool.deadlocks.check_wait
        if self._spec.batched:
            future = self._submit(self._batcher(pool).submit, args, kwargs)
            return AsyncCall(future, self._where, check_wait)
        input = AwaitableCall(pool, self._name, args, kwargs)
        started = AsyncCall(self._submit(input.submit), self._where, check_wait)
        started.prompts = input.prompts
        started.set_number(input.id)
        return started

    def _submit(self, submit: Callable[..., Future[Any]], *given: Any) -> Future[Any]:
        """Return ``submit(*given)``; a SIGINT leaves no call half submitted, and none running."""
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
        return Batcher.of(pool, self._spec)

    # --- generators ------------------------------------------------------------------------

    def _remote_gen(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Return an iterator over the items that the method yields, as they arrive.

        Leaving the loop closes the generator in its container. The items of an ``async def`` method
        can be read by ``for`` and by ``async for``.
        """
        self._only_generator("remote_gen")
        pool = self._pool()
        if self._spec.is_async:
            return async_generators.EitherItems(pool, self._name, args, kwargs)
        return generators.stream(pool, self._name, args, kwargs)

    def _remote_gen_aio(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Return an asynchronous iterator over the items that the method yields."""
        self._only_generator("remote_gen.aio")
        return async_generators.AsyncItems(self._find, self._name, args, kwargs)

    # --- many inputs -----------------------------------------------------------------------

    @property
    def map(self) -> CallWithAio:
        """Call the method for each input, and return an iterator over the values."""
        return self._many.map

    @property
    def starmap(self) -> CallWithAio:
        """Call the method for each tuple of arguments, and return an iterator over the values."""
        return self._many.starmap

    @property
    def for_each(self) -> CallWithAio:
        """Run the method for each input, and drop the values."""
        return self._many.for_each

    @functools.cached_property  # most handles make one call, which must not wait for this
    def _many(self) -> ManyInputs:
        return ManyInputs(self._where, self._pool, self._find, self._mapping, self._no_generator)

    def _mapping(self, pool: Pool, asked: MapRequest) -> MapRun:
        return MapRun(
            pool,
            self._name,
            ordered=asked.ordered,
            return_exceptions=asked.return_exceptions,
            submit=self._batcher(pool).submit if self._spec.batched else None,
        )

    # --- here ------------------------------------------------------------------------------

    @property
    def local(self) -> Callable[..., Any]:
        """Run the method in this process, on an instance of its own."""
        return SignedCall.make(self._local, self, LOCAL, self, "local")

    def _local(self, *args: Any, **kwargs: Any) -> Any:
        if self._spec.is_async and not self._spec.is_generator:
            return self._local_async(args, kwargs)
        return getattr(self._here(), self._name)(*args, **kwargs)

    async def _local_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return await getattr(await self._here_async(), self._name)(*args, **kwargs)

    # --- over HTTP -------------------------------------------------------------------------

    @property
    def web_url(self) -> str:
        """The address at which the method answers HTTP, which is open from now on.

        Raises `InvalidError` for a method that does not answer HTTP.
        """
        return self._served().url

    @property
    def get_web_url(self) -> CallWithAio:
        """Return `web_url`, as a call, as in Modal."""
        return with_thread(lambda: self._served().url)

    @property
    def get_current_stats(self) -> CallWithAio:
        """Return the number of inputs that wait, as ``backlog``, and of containers, as
        ``num_total_runners``. Starts nothing.
        """
        return with_thread(lambda: current_stats(self._ready()))

    @property
    def web_token(self) -> str | None:
        """The bearer token that the address requires with ``requires_proxy_auth=True``, otherwise
        None.
        """
        return self._served().token

    def _served(self) -> ServedAddress:
        if self._spec.web is None or self._address is None:
            raise InvalidError(
                f"{self._where} has no address, because it is called with .remote(). "
                "Fix: to answer HTTP, write @fastapi_endpoint() instead of @method()"
            )
        return self._address(self._name)

    # --- wrong calls -----------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        if name in OLD_WAYS:
            return old_way(self, name)
        refuse("Function", name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _no_web(self, way: str) -> None:
        if self._spec.web is not None:
            raise wrong_form.answers_http(self._where, way)

    def _no_generator(self, way: str, right: str) -> None:
        self._no_web(way)
        if self._spec.is_generator:
            raise wrong_form.yields_values(self._where, way, right)

    def _only_generator(self, way: str) -> None:
        self._no_web(way)
        if not self._spec.is_generator:
            raise wrong_form.yields_nothing(self._where, way)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise InvalidError(
            f"{self._where}(...) does not say where to run. "
            f"Fix: write {self._where}.remote(...) or {self._where}.local(...)"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        if self.reduced is None:
            raise TypeError(f"{self._where} can't be pickled")
        return self.reduced()

    def __repr__(self) -> str:
        return f"<method {self._where}{self._spec.signature}>"


refuse_members(Method, "Function")
