"""The handles as type checkers see them: the types that ``@method`` and ``@app.function``
return.

No module imports this one at run time. A decorated class keeps its type, and each of its methods is
a `RemoteMethod`, so that ``Model().predict.remote(x)`` is checked like ``predict(x)``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, Concatenate, Generic, Protocol, TypeVar, overload

from typing_extensions import ParamSpec, Self, Unpack

from lifecycle_magic.callers.function_call import FunctionCall
from lifecycle_magic.spec.option_types import ModalOptionTypes

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


class RemoteCall(Protocol[P, R_co]):
    """A call: ``f(...)`` waits in the calling thread, ``await f.aio(...)`` in the event loop."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call and wait."""

    def aio(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R_co]:
        """Call and await."""


class RemoteItems(Protocol[P, R_co]):
    """A generator call: ``for item in f(...)``, or ``async for item in f.aio(...)``."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return the items as they arrive."""

    def aio(self, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[Any]:
        """Return the items as they arrive, for ``async for``."""


class RemoteMap(Protocol[R_co]):
    """``.map``: one call for each element of the iterables."""

    def __call__(
        self,
        *iterables: Iterable[Any],
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool | None = None,
        progress: bool = True,
    ) -> Iterator[R_co]:
        """Return the results, lazily."""

    def aio(
        self,
        *iterables: Any,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool | None = None,
        progress: bool = True,
    ) -> AsyncIterator[R_co]:
        """Return the results, for ``async for``."""


class RemoteStarmap(Protocol[R_co]):
    """``.starmap``: one call for each tuple of arguments."""

    def __call__(
        self,
        inputs: Iterable[Iterable[Any]],
        *,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool | None = None,
        progress: bool = True,
    ) -> Iterator[R_co]:
        """Return the results, lazily."""

    def aio(
        self,
        inputs: Any,
        *,
        kwargs: dict[str, Any] | None = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool | None = None,
        progress: bool = True,
    ) -> AsyncIterator[R_co]:
        """Return the results, for ``async for``."""


class RemoteForEach(Protocol):
    """``.for_each``: one call for each element; the results are dropped."""

    def __call__(
        self,
        *iterables: Iterable[Any],
        kwargs: dict[str, Any] | None = None,
        ignore_exceptions: bool = False,
        progress: bool = True,
    ) -> None:
        """Wait for all calls."""

    def aio(
        self,
        *iterables: Any,
        kwargs: dict[str, Any] | None = None,
        ignore_exceptions: bool = False,
        progress: bool = True,
    ) -> Awaitable[None]:
        """Await all calls."""


class _CallMethods(Generic[P, R]):
    """The calls that methods and functions have in common."""

    remote: RemoteCall[P, R]
    remote_gen: RemoteItems[P, R]
    map: RemoteMap[R]
    starmap: RemoteStarmap[R]
    for_each: RemoteForEach
    spawn: RemoteCall[P, FunctionCall[R]]
    spawn_map: RemoteCall[..., None]
    get_current_stats: RemoteCall[[], Any]
    local: Callable[P, R]

    @property
    def web_url(self) -> str:
        """The address of a method that answers HTTP."""
        raise NotImplementedError

    get_web_url: RemoteCall[[], str]

    @property
    def web_token(self) -> str | None:
        """The bearer token that the address requires, or None."""
        raise NotImplementedError


class RemoteFunction(_CallMethods[P, R]):
    """The type of a function that is decorated with ``@app.function``."""

    update_autoscaler: RemoteCall[..., None]
    is_generator: bool

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the plain function. Outside of a container this raises an error."""
        raise NotImplementedError

    def with_options(self, **options: Unpack[ModalOptionTypes]) -> RemoteFunction[P, R]:
        """Return the same function with other options and containers of its own."""
        raise NotImplementedError

    def with_concurrency(
        self, *, max_inputs: int, target_inputs: int | None = None
    ) -> RemoteFunction[P, R]:
        """Return the same function with other numbers of inputs at once."""
        raise NotImplementedError

    def with_batching(self, *, max_batch_size: int, wait_ms: int) -> RemoteFunction[P, R]:
        """Return the same function, which gets lists."""
        raise NotImplementedError

    def get_raw_f(self) -> Callable[P, R]:
        """Return the plain function."""
        raise NotImplementedError


class RemoteMethod(_CallMethods[P, R]):
    """The type of a ``@method``. In the class itself, ``self.method(...)`` calls it."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the plain method, in the class itself."""
        raise NotImplementedError


class AsyncRemoteMethod(_CallMethods[P, Any]):
    """The type of an ``async def`` ``@method``.

    ``.remote()`` returns the result if no event loop runs, otherwise an awaitable.
    """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, Any]:
        """Call the plain method, in the class itself."""
        raise NotImplementedError


class MethodAttribute(Generic[P, R]):
    """A ``@method`` as an attribute of its class."""

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> RemoteMethod[P, R]: ...
    def __get__(self, instance: object, owner: type) -> Any:
        """Return the method of an instance."""
        raise NotImplementedError


class AsyncMethodAttribute(Generic[P]):
    """An ``async def`` ``@method`` as an attribute of its class."""

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> AsyncRemoteMethod[P]: ...
    def __get__(self, instance: object, owner: type) -> Any:
        """Return the method of an instance."""
        raise NotImplementedError


class MethodDecorator(Protocol):
    """``@method()``, with its parentheses."""

    @overload
    def __call__(  # type: ignore[overload-overlap] # a coroutine function is the special case
        self, fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]], /
    ) -> AsyncMethodAttribute[P]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Any, P], R], /) -> MethodAttribute[P, R]: ...
    def __call__(self, fn: Any, /) -> Any:
        """Return the attribute."""
