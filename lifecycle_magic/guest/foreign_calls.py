"""Every way to call a method of another class from inside a container.

The names and their meaning are those of `lifecycle_magic.handles.methods`. Here a call goes over
the `lifecycle_magic.guest.container_connection`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

from lifecycle_magic.callers import wrong_form
from lifecycle_magic.callers.async_call import AsyncCall
from lifecycle_magic.callers.function_call import FunctionCall
from lifecycle_magic.callers.internal_frames import hidden
from lifecycle_magic.callers.remote_exceptions import blocking_call_error
from lifecycle_magic.callers.with_aio import CallWithAio
from lifecycle_magic.exception import RemoteError
from lifecycle_magic.guest import foreign_items
from lifecycle_magic.guest.many_foreign_calls import ManyForeignCalls
from lifecycle_magic.guest.session_answers import Wait, settle, value_of
from lifecycle_magic.guest.session_connection import Answer, Reach, begin
from lifecycle_magic.wire.frames import Kind
from lifecycle_magic.wire.nested import ADDRESS, REMOTE, SPAWN

__all__ = ["ForeignCall", "ForeignCalls", "MethodKind", "runs_loop"]


class ForeignCall(FunctionCall[Any]):
    """A `FunctionCall` whose wait ends when the running call is interrupted."""

    def _outcome(self, timeout: float | None = None) -> Any:
        if not self._future.done():
            waiting = Wait()
            self._future.add_done_callback(lambda _: waiting.receive(_DONE))
            try:
                waiting.wait(timeout)
            except KeyboardInterrupt:
                self._cancel()
                raise
            if not self._future.done():
                raise self._timeout_error(timeout)
        return super()._outcome()


_DONE = Answer(Kind.END)


class MethodKind(NamedTuple):
    """The kind of a method: whether it is ``async def``, and whether it yields its values."""

    is_async: bool
    is_generator: bool


class ForeignCalls:
    """The ways to call one method: ``remote``, ``spawn`` and so on.

    ``reach`` returns what is called, ``kind`` whether it is async and whether it is a generator.
    """

    def __init__(self, reach: Reach, where: str, kind: Callable[[], MethodKind]) -> None:
        self._reach = reach
        self._where = where
        self._kind = kind
        self.remote = CallWithAio(self._remote, self._remote_aio)
        self.spawn = CallWithAio(self._spawn, self._spawn_aio)
        self.spawn_map = CallWithAio(self._spawn_map, self._spawn_map_aio)
        self.remote_gen = CallWithAio(self._remote_gen, self._remote_gen_aio)
        many = ManyForeignCalls(self._call_one)
        self.map, self.starmap, self.for_each = many.map, many.starmap, many.for_each
        self.get_web_url = CallWithAio(self._get_web_url, self._get_web_url_aio)

    def _remote(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method in a warm container and return its result."""
        if runs_loop():
            if self._kind().is_async:
                return AsyncCall(self._start(REMOTE, args, kwargs)._future, self._where)
            self._warn_blocking()
        used, target = self._reach()
        answer = used.call(target, args, kwargs)
        if answer is not None:
            return self._value_of(answer)
        waiting = Wait()
        used, number = begin(self._reach, REMOTE, args, kwargs, waiting.receive)
        try:
            answer = waiting.wait()
        except BaseException:
            used.send(Kind.ABANDON, number)
            raise
        assert answer is not None
        return self._value_of(answer)

    def _value_of(self, answer: Answer) -> Any:
        """Return the value in an answer, or raise the exception in it as the method raised it."""
        try:
            return value_of(answer, self._where)
        except RemoteError as error:
            raised = blocking_call_error(error)
            if raised is error:
                raise
        raise raised

    async def _remote_aio(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method and await its result. Cancelling the wait interrupts the method."""
        with hidden:
            return await self._start(REMOTE, args, kwargs)

    def _spawn(self, *args: Any, **kwargs: Any) -> FunctionCall[Any]:
        """Start the call and return a `FunctionCall` at once."""
        return self._start(SPAWN, args, kwargs)

    async def _spawn_aio(self, *args: Any, **kwargs: Any) -> FunctionCall[Any]:
        """Start the call and return a `FunctionCall` at once."""
        return self._spawn(*args, **kwargs)

    def _spawn_map(self, *iterables: Any, kwargs: dict[str, Any] | None = None) -> None:
        """Start a call for each input, as ``map`` takes them, and drop the results."""
        for args in zip(*iterables, strict=False):
            self._spawn(*args, **(kwargs or {}))

    async def _spawn_map_aio(self, *iterables: Any, kwargs: dict[str, Any] | None = None) -> None:
        """Start a call for each input, as ``map`` takes them, and drop the results."""
        self._spawn_map(*iterables, kwargs=kwargs)

    def _call_one(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ForeignCall:
        """Start a call of a map, which waits for it."""
        return self._start(REMOTE, args, kwargs)

    def _get_web_url(self) -> str:
        """Return the address of a method that answers HTTP."""
        url: str = self._start(ADDRESS, (), {}).get()
        return url

    async def _get_web_url_aio(self) -> str:
        """Return the address of a method that answers HTTP."""
        url: str = await self._start(ADDRESS, (), {})
        return url

    @property
    def web_url(self) -> str:
        """The address of a method that answers HTTP."""
        return self._get_web_url()

    def _remote_gen(self, *args: Any, **kwargs: Any) -> Any:
        """Return an iterator over the items that the method yields, as they arrive."""
        self._only_generator()
        items = foreign_items.stream(self._reach, self._where, args, kwargs)
        if not self._kind().is_async:
            return items
        other = foreign_items.stream_async(self._reach, self._where, args, kwargs)
        return foreign_items.ForeignItems(items, other)

    def _remote_gen_aio(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Return an asynchronous iterator over the items that the method yields."""
        self._only_generator()
        return foreign_items.stream_async(self._reach, self._where, args, kwargs)

    def _only_generator(self) -> None:
        if not self._kind().is_generator:
            raise wrong_form.yields_nothing(self._where)

    def _start(self, form: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ForeignCall:
        """Start a call. Cancelling it interrupts the method."""
        future: Future[Any] = Future()

        def receive(answer: Answer) -> None:
            settle(future, answer, self._where)

        used, number = begin(self._reach, form, args, kwargs, receive)

        def on_done(done: Future[Any]) -> None:
            if done.cancelled():
                used.send(Kind.ABANDON, number)

        def on_wait(where: str, *, awaits: bool = False) -> None:
            if form == SPAWN:
                used.send(Kind.AWAIT, number)

        future.add_done_callback(on_done)
        started = ForeignCall(future, self._where, on_wait)
        if form == SPAWN:
            started.object_id = used.call_id(number)
        return started

    def _warn_blocking(self) -> None:
        """Warn once that the call blocks the event loop of this container."""
        _warn_blocking(self._where)


def runs_loop() -> bool:
    """Return whether this thread's event loop runs."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


_warned: set[str] = set()


def _warn_blocking(where: str) -> None:
    if where not in _warned:
        _warned.add(where)
        warnings.warn(
            f"{where}.remote() blocks the event loop of this container: no other coroutine runs "
            f"meanwhile. Fix: write await {where}.remote.aio(...)",
            RuntimeWarning,
            stacklevel=5,
        )
