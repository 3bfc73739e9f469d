"""The test for a class, and the class that a function is made into."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any, TypeGuard

__all__ = ["CALL", "is_class", "title", "unbound", "unwrapped"]

CALL = "call"
"""The one method of the class that an ``@app.function`` is made into."""


def is_class(value: Any) -> TypeGuard[type[Any]]:
    """Return whether ``value`` is a class, and nothing that passes itself off as one.

    `isinstance` believes ``value.__class__``: in Python 3.10 ``isinstance(list[int], type)`` is
    true, and it always is for a mock of a class.

    >>> is_class(int), is_class(list[int])
    (True, False)
    """
    return issubclass(type(value), type)


def unbound(value: Any) -> Any:
    """Return the function of a bound, static or class method; any other value as it is.

    Code of the value's class does not run: it may give items of a dict as attributes.
    """
    if issubclass(type(value), (staticmethod, classmethod, MethodType)):
        return value.__func__
    return value


def unwrapped(value: Any, stop: Callable[[Any], bool] = lambda _: False) -> Any:
    """Return what is inside of all decorators around a value, without running code of its class."""
    seen: set[int] = set()
    while not stop(value) and id(value) not in seen:
        seen.add(id(value))
        inner = unbound(value)
        try:
            found = object.__getattribute__(inner, "__dict__")
        except AttributeError:
            found = {}
        value = found.get("__wrapped__", inner) if isinstance(found, dict) else inner
    return value


def title(pool: Any, method: str) -> str:
    """Return what users call a method of a pool in errors: ``Model.go``, or a function's name."""
    spec = getattr(pool, "declared", None)
    is_function = method == CALL and spec is not None and spec.is_function
    return str(pool.name) if is_function else f"{pool.name}.{method}"
