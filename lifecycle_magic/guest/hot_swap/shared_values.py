"""Mutable values that new code would share with values that stay, and can't."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import CellType, FunctionType, ModuleType
from typing import Any

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.wire.by_value import is_named

_MUTABLE = (dict, list, set, bytearray)


def find_shared(taken: list[tuple[str, Any]], kept: list[Any], pairs: dict[int, int]) -> list[str]:
    """Return the names of taken values that hold an object which a kept value also holds.

    The kept object belongs to the container by now, and the new value would get a copy of it.
    """
    if not taken:
        return []
    held = {id(one) for value in kept for one in _mutable(value, pairs)}
    return [name for name, value in taken if any(id(one) in held for one in _mutable(value, pairs))]


def _mutable(value: Any, pairs: dict[int, int]) -> Iterator[Any]:
    """Yield every mutable object in a value. A paired object is the same on both sides."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or id(one) in pairs:
            continue
        seen.add(id(one))
        if isinstance(one, FunctionType):
            if not is_named(one):
                waiting += [*(one.__defaults__ or ()), *(one.__kwdefaults__ or {}).values()]
                waiting += [vars(one), *(one.__closure__ or ())]
        elif is_class(one):
            if not is_named(one):
                waiting += vars(one).values()
        elif isinstance(one, dict):
            yield one
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, (list, tuple, set, frozenset)):
            if isinstance(one, _MUTABLE):
                yield one
            waiting += one
        elif isinstance(one, CellType):
            with contextlib.suppress(ValueError):  # not assigned yet
                waiting.append(one.cell_contents)
        elif isinstance(one, bytearray):
            yield one
        elif hasattr(one, "__dict__") and not isinstance(one, ModuleType):
            yield one
            waiting += vars(one).values()
