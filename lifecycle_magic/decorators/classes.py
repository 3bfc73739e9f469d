"""The test for a class, and the class that a function is made into."""

from __future__ import annotations

from typing import Any, TypeGuard

__all__ = ["CALL", "is_class", "title"]

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


def title(pool: Any, method: str) -> str:
    """Return what users call a method of a pool in errors: ``Model.go``, or a function's name."""
    spec = getattr(pool, "declared", None)
    is_function = method == CALL and spec is not None and spec.is_function
    return str(pool.name) if is_function else f"{pool.name}.{method}"
