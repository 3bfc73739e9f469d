"""Global names that the bodies of classes inside of a function read.

Such a body is compiled like a module: it reads a global as any name, which cloudpickle does not
count. Standard library only.
"""

from __future__ import annotations

import dis
import inspect
import types

from lifecycle_magic.wire.code_objects import nested_codes

__all__ = ["names_in_class_bodies"]

_LOADS = ("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")


def names_in_class_bodies(code: types.CodeType) -> set[str]:
    """Return the names that class bodies in ``code`` read before they assign them.

    >>> def make():
    ...     class Made:
    ...         first = second = print
    ...         third = first
    >>> names_in_class_bodies(make.__code__)
    {'print'}
    """
    found: set[str] = set()
    for inner in nested_codes(code):
        if not inner.co_flags & inspect.CO_OPTIMIZED:
            found |= _read_first(inner)
    return found


def _read_first(body: types.CodeType) -> set[str]:
    read: set[str] = set()
    assigned = {"__name__"}  # each body reads it for __module__
    for step in dis.get_instructions(body):
        if step.opname in _LOADS and step.argval not in assigned:
            read.add(step.argval)
        elif step.opname == "STORE_NAME":
            assigned.add(step.argval)
    return read
