"""The namespace in which a class was defined, and what it knows under the class's own names."""

from __future__ import annotations

import sys
import types
from typing import Any

__all__ = ["function_in", "namespace_of", "own_names"]


def function_in(value: Any) -> types.FunctionType | None:
    """Return the function that a class's attribute is, or that a static or class method wraps."""
    found = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
    return found if isinstance(found, types.FunctionType) else None


def namespace_of(cls: type) -> dict[str, Any]:
    """Return the namespace in which a class was defined."""
    for value in vars(cls).values():
        function = function_in(value)
        while function is not None:  # a library's decorator may be around it
            if function.__globals__.get("__name__") == cls.__module__:
                return function.__globals__
            function = function_in(getattr(function, "__wrapped__", None))
    return vars(sys.modules.get(cls.__module__, types.ModuleType(cls.__module__)))


def own_names(cls: type) -> dict[str, Any]:
    """Return the class and its bases by name, or the function that the class is made from."""
    for value in vars(cls).values():
        function = function_in(value)
        if function is not None and function.__qualname__ == cls.__qualname__:
            return {cls.__qualname__: function}
    line = cls.__mro__[:-1]
    return {one.__qualname__: one for one in line if one.__module__ == cls.__module__}
