"""Objects that stand around functions: properties, static methods and what functools makes."""

from __future__ import annotations

import functools
from typing import Any

__all__ = ["wrapped_in"]


def wrapped_in(value: Any) -> tuple[str, list[Any]] | None:
    """Return the kind of a wrapper and the functions in it; None for any other object.

    >>> wrapped_in(staticmethod(len))
    ('staticmethod', [<built-in function len>])
    """
    if isinstance(value, property):
        return "property", [value.fget, value.fset, value.fdel]
    if isinstance(value, (staticmethod, classmethod)):
        return type(value).__name__, [value.__func__]
    if isinstance(value, functools.cached_property):
        return "cached_property", [value.func]
    if isinstance(value, functools.singledispatchmethod):  # its use fills a cache
        return "singledispatchmethod", [[value.func, value.dispatcher]]
    if type(value).__module__ == "functools" and hasattr(value, "__wrapped__"):
        return type(value).__name__, [value.__wrapped__]
    return None
