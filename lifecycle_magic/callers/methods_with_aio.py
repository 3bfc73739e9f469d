"""Blocking methods with a form for coroutines, which runs them on a thread: ``await x.f.aio()``."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast

from lifecycle_magic.callers.with_aio import CallWithAio

__all__ = [
    "MethodWithAio", "WithAio",
    "block_with_aio", "items_with_aio", "static_with_aio", "with_aio",
]  # fmt: skip

P = ParamSpec("P")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)
A_co = TypeVar("A_co", covariant=True)


class WithAio(Protocol[P, R_co, A_co]):
    """A function with its equivalent for coroutines, as type checkers see it."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    def aio(self, *args: P.args, **kwargs: P.kwargs) -> A_co: ...


class MethodWithAio(Generic[P, R_co, A_co]):
    """A method that is a `CallWithAio` on each instance, and the plain function on the class."""

    def __init__(self, method: Callable[..., Any], aio: Callable[..., Any]) -> None:
        self._method = method
        self._aio = aio
        self.__doc__ = method.__doc__

    def __get__(self, instance: Any, owner: Any = None) -> WithAio[P, R_co, A_co]:
        if instance is None:
            return cast("WithAio[P, R_co, A_co]", self._method)
        bound = functools.partial(self._method, instance)
        functools.update_wrapper(bound, self._method)
        del bound.__dict__["__wrapped__"]  # its signature has `self`
        return CallWithAio(bound, functools.partial(self._aio, instance))


def with_aio(
    method: Callable[Concatenate[Any, P], T],
) -> MethodWithAio[P, T, Coroutine[Any, Any, T]]:
    """Give a blocking method a form for coroutines, ``.aio``, which runs it on a thread."""
    return MethodWithAio(method, _on_thread(method))


def items_with_aio(
    method: Callable[Concatenate[Any, P], Iterator[T]],
) -> MethodWithAio[P, Iterator[T], AsyncIterator[T]]:
    """Give a method that yields a form for coroutines, whose items are read on threads."""

    async def aio(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        from lifecycle_magic.threads.blocking import run_in_thread

        items: Any = await run_in_thread(lambda: method(*args, **kwargs))
        end = object()
        try:
            while (item := await run_in_thread(lambda: next(items, end))) is not end:
                yield item
        finally:
            if hasattr(items, "close"):
                items.close()

    return MethodWithAio(method, aio)


def block_with_aio(method: Callable[Concatenate[Any, P], T]) -> MethodWithAio[P, T, T]:
    """Give a method that returns a ``with`` block a form for coroutines, ``.aio``: the block is for
    ``async with`` too.
    """
    return MethodWithAio(method, method)


def static_with_aio(function: Callable[P, T]) -> WithAio[P, T, Coroutine[Any, Any, T]]:
    """Give a blocking function a form for coroutines, ``.aio``, which runs it on a thread."""
    return CallWithAio(function, _on_thread(function))


def _on_thread(function: Callable[..., T]) -> Callable[..., Coroutine[Any, Any, T]]:
    def aio(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, T]:
        from lifecycle_magic.threads.blocking import run_in_thread

        return run_in_thread(lambda: function(*args, **kwargs))

    return aio
