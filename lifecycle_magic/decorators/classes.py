"""The test for a class, and the class that a function is made into."""

from __future__ import annotations

from typing import Any, TypeGuard

__all__ = ["CALL", "is_class"]

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
