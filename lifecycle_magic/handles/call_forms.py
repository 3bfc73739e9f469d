"""The ways to call a method: objects with the signature and docstring of the user's method."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lifecycle_magic.callers.internal_frames import strip_all
from lifecycle_magic.callers.with_aio import CallWithAio
from lifecycle_magic.calls import sync

if TYPE_CHECKING:
    from lifecycle_magic.handles.methods import Method
    from lifecycle_magic.pool.pool import Pool

__all__ = ["CallForm", "Remote", "SignedCall"]


class SignedCall(functools.partial[Any]):
    """A function that calls a method of the user, with the signature of that method.

    ``owner`` has it under ``name``. A partial, so that it costs a call next to nothing and a
    coroutine function is still known as one.
    """

    method: Method
    summary: str
    place: tuple[object, str]

    @classmethod
    def make(
        cls, call: Callable[..., Any], method: Method, summary: str, owner: object, name: str
    ) -> SignedCall:
        """Return ``call`` with the signature and docstring of ``method``."""
        made = cls(call)
        made.method, made.summary, made.place = method, summary, (owner, name)
        return made

    @property
    def __signature__(self) -> inspect.Signature:
        return self.method.__signature__

    @property
    def __name__(self) -> str:
        return self.method.__name__

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return _help(self.summary, self.method)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, self.place


def _help(summary: str, method: Method) -> str:
    """Return the docstring of a way to call ``method``: a sentence about it, then the user's."""
    return f"{summary}\n\n{method.__doc__ or ''}".rstrip()


class CallForm(CallWithAio):
    """One way to call a method.

    Help and completion show the user's own signature and docstring under ``summary``, a sentence
    about this way; ``.aio`` has ``aio_summary``.
    """

    __slots__ = ("_method", "_summary")

    def __init__(
        self,
        method: Method,
        summary: str,
        aio_summary: str,
        call: Callable[..., Any],
        aio: Callable[..., Any],
    ) -> None:
        super().__init__(call, SignedCall.make(aio, method, aio_summary, self, "aio"))
        self._method = method
        self._summary = summary

    def __reduce__(self) -> tuple[Any, ...]:
        name = next(name for name, way in vars(self._method).items() if way is self)
        return getattr, (self._method, name)

    @property
    def __signature__(self) -> inspect.Signature:
        return self._method.__signature__

    @property
    def __name__(self) -> str:
        return self._method.__name__

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return _help(self._summary, self._method)


class Remote(CallForm):  # noqa: D101 - its docstring is the property of `CallForm`
    # ``.remote``. For a plain ``def`` method it directly calls the pool that it found last.
    __doc__ = CallForm.__dict__["__doc__"]  # otherwise it would be None here

    __slots__ = ("_declared", "_name", "_pool")

    def __init__(self, method: Method, aio: Callable[..., Any]) -> None:
        summary = "Call the method in a warm container and return its result."
        aio_summary = "Call the method in a warm container and await its result."
        super().__init__(method, summary, aio_summary, self.__call__, aio)
        self._name = method._name
        self._pool: Pool | None = None
        self._declared: object = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method in a warm container and return its result."""
        __tracebackhide__ = True
        pool = self._pool
        try:
            if pool is None or pool.stale or pool.declared is not self._declared:
                return self._method._remote(self, args, kwargs)
            return sync.call(pool, self._name, args, kwargs)
        except BaseException as error:  # faster than `hidden` if nothing is raised
            strip_all(error)
            raise

    def keep(self, pool: Pool) -> None:
        """Call ``pool`` from now on, until its class is declared again."""
        self._pool, self._declared = pool, pool.declared
