"""A function and its equivalent for coroutines under one name, as in Modal: ``f(...)`` waits in the
calling thread, ``await f.aio(...)`` in the event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lifecycle_magic.callers.internal_frames import hidden

if TYPE_CHECKING:
    import inspect

__all__ = ["CallWithAio", "with_thread"]


class CallWithAio:
    """A function to call, with its equivalent for coroutines as ``aio``."""

    __slots__ = ("_call", "aio")

    def __init__(self, call: Callable[..., Any], aio: Callable[..., Any]) -> None:
        self._call = call
        self.aio = aio

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        with hidden:
            return self._call(*args, **kwargs)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self._call.__doc__

    @property
    def __signature__(self) -> inspect.Signature:
        import inspect

        return inspect.signature(self._call)


def with_thread(call: Callable[..., Any]) -> CallWithAio:
    """Return a function whose equivalent for coroutines runs it on a thread."""

    async def aio(*args: Any, **kwargs: Any) -> Any:
        from lifecycle_magic.threads.blocking import run_in_thread

        return await run_in_thread(lambda: call(*args, **kwargs))

    return CallWithAio(call, aio)
