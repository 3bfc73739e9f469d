"""A function and its twin for coroutines under one name, as Modal has them: ``f(...)`` waits in the
calling thread, ``await f.aio(...)`` in the event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Way"]


class Way:
    """One way to call something: a function, with its twin for coroutines as ``aio``."""

    __slots__ = ("_call", "aio")

    def __init__(self, call: Callable[..., Any], aio: Callable[..., Any]) -> None:
        self._call = call
        self.aio = aio

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return self._call(*args, **kwargs)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self._call.__doc__
