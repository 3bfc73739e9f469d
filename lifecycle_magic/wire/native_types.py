"""Types that are written in C and that no module names, such as the type of ``{}.keys()``.

They travel by the name that they report, and are looked up on arrival among the types that Python
knows.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

__all__ = ["find", "is_native", "reduce"]

_HEAP, _IMMUTABLE = 1 << 9, 1 << 8  # Py_TPFLAGS_HEAPTYPE and Py_TPFLAGS_IMMUTABLETYPE
_flags: Any = type.__dict__["__flags__"]


def is_native(cls: type) -> bool:
    """Return whether a type is written in C. No class statement creates such a type."""
    flags = _flags.__get__(cls)
    return not flags & _HEAP or bool(flags & _IMMUTABLE)


def reduce(cls: type) -> tuple[Any, ...]:
    """Return the reduce value of a type. Raises TypeError for a type that can't be found again."""
    place = cls.__module__, cls.__qualname__
    if find(*place) is not cls:
        raise TypeError(f"cannot pickle the type {'.'.join(place)}, which no module has by name")
    return find, place


def find(module: str, qualname: str) -> type:
    """Return the C type that reports this name. Raises TypeError if there is none."""
    with contextlib.suppress(ImportError):
        importlib.import_module(module)
    todo: list[type] = [object]
    seen: set[int] = set()
    while todo:
        cls = todo.pop(0)
        if id(cls) in seen or not is_native(cls):
            continue
        seen.add(id(cls))
        if (cls.__module__, cls.__qualname__) == (module, qualname):
            return cls
        todo += type.__subclasses__(cls)
    raise TypeError(f"this Python has no type {module}.{qualname}")
