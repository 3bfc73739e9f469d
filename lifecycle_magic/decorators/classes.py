"""What is a class."""

from __future__ import annotations

from typing import Any, TypeGuard

__all__ = ["is_class"]


def is_class(value: Any) -> TypeGuard[type[Any]]:
    """Return whether ``value`` is a class, and nothing that passes itself off as one.

    `isinstance` believes ``value.__class__``: in Python 3.10 ``isinstance(list[int], type)`` is
    true, and it always is for a mock of a class.

    >>> is_class(int), is_class(list[int])
    (True, False)
    """
    return issubclass(type(value), type)
