"""An object that a module has: it arrives as the object of the module there, not as a copy."""

from __future__ import annotations

import importlib
import os
from collections import Counter, OrderedDict, defaultdict, deque
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from lifecycle_magic.wire import definition_load
from lifecycle_magic.wire.value_digest import ValueDigester

__all__ = ["ModuleObject", "reduce_environment"]

_DICTS = (Counter, OrderedDict, defaultdict)
_OF_PYTHON = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class statement makes such a type


class ModuleObject:
    """Stands in a pickle for what ``module`` has as ``name``.

    With ``with_content``, the object there gets the content that ``value`` has here, before any
    code of the class runs.
    """

    def __init__(self, module: str, name: str, value: Any, *, with_content: bool) -> None:
        self.module = module
        self.name = name
        self.value = value
        self._content = (value,) if with_content else ()

    def __reduce__(self) -> tuple[Any, ...]:
        return find, (self.module, self.name, *self._content)


def reduce_environment(value: Any) -> tuple[Any, ...] | None:
    """Reduce `os.environ` to its place, for a definition that holds it; None for other values."""
    return (find, ("os", "environ")) if value is os.environ else None


def find(module: str, name: str, *content: Any) -> Any:
    """Return the module's object, with this content if it is given.

    Return ``content`` itself where the module can't be imported or has another object, and where
    the module's object is in use already and has changed.
    """
    if not content:
        return getattr(importlib.import_module(module), name)
    copy = content[0]
    try:
        found = getattr(importlib.import_module(module), name)
        if type(found) is not type(copy):
            return copy
        if _equal(found, copy) or (definition_load.is_first() and _fill(found, copy)):
            return found
    except Exception:  # of the module's import, or of the user's own classes
        pass
    return copy


def _fill(found: Any, copy: Any) -> bool:
    """Give an object the content of its copy. Parts that are equal stay the objects they are."""
    if type(found) in (dict, *_DICTS):
        for key in [one for one in found if one not in copy]:
            del found[key]
        for key, value in copy.items():
            if key not in found or not _equal(found[key], value):
                found[key] = value
    elif type(found) in (list, deque):
        parts = zip(found, copy, strict=False)
        kept = [one if _equal(one, other) else other for one, other in parts]
        kept += list(copy)[len(kept) :]
        found.clear()
        found.extend(kept)
    elif type(found) is set:
        found &= copy
        found |= copy
    elif _is_all_in_its_dict(type(found)):
        return _fill(vars(found), vars(copy))
    else:
        return False
    return True


def _is_all_in_its_dict(kind: Any) -> bool:
    """Return whether instances have no content but their ``__dict__``."""
    return all(
        one.__flags__ & _OF_PYTHON and not vars(one).get("__slots__") for one in kind.__mro__[:-1]
    ) and (kind.__reduce_ex__, kind.__reduce__) == (object.__reduce_ex__, object.__reduce__)


def _equal(one: Any, other: Any) -> bool:
    digester = ValueDigester(_by_name)
    return digester.encode(one) == digester.encode(other)


def _by_name(value: Any) -> bytes | None:
    """Return a digest of what has a name; None for all else."""
    if isinstance(value, ModuleType):
        return value.__name__.encode()
    if isinstance(value, (type, FunctionType, BuiltinFunctionType)):
        return f"{value.__module__}.{value.__qualname__}".encode()
    return None
