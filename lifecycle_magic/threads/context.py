"""A value of a context variable for the time of one call, whatever ends the call."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

__all__ = ["run_with"]

T = TypeVar("T")
V = TypeVar("V")


def run_with(variable: ContextVar[V], value: V, function: Callable[..., T], *args: Any) -> T:
    """Return ``function(*args)``, during which ``variable`` has ``value``.

    The call has a context of its own. An interrupt may come between any two lines; with ``set`` and
    ``reset`` the value could stay for everything that the thread does later.

    >>> depth = ContextVar("depth", default=0)
    >>> run_with(depth, 3, depth.get), depth.get()
    (3, 0)
    """
    context = copy_context()
    context.run(variable.set, value)
    return context.run(function, *args)
