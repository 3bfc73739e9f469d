"""Objects that code finds by introspection, so that no name in it leads there: subclasses of a
class, and the types that annotations name in strings.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from lifecycle_magic.fingerprint.own_attributes import has_typed_fields
from lifecycle_magic.wire.annotations import names_in

__all__ = ["CodeQueries", "annotated_names", "asked_by", "subclasses_of"]

_TYPES = frozenset({"get_type_hints", "get_annotations", "eval_str"})


class CodeQueries(NamedTuple):
    """The questions that some code asks: subclasses of classes, types of annotations."""

    subclasses: bool = False
    types: bool = False

    def __or__(self, other: Any) -> CodeQueries:
        return CodeQueries(self.subclasses or other.subclasses, self.types or other.types)


@functools.lru_cache(maxsize=4096)
def asked_by(code: CodeType) -> CodeQueries:
    """Return what ``code``, and the code nested in it, asks for."""
    words = {*code.co_names}
    for one in code.co_consts:
        if isinstance(one, tuple):  # names of keyword arguments
            words |= {word for word in one if isinstance(word, str)}
    found = CodeQueries("__subclasses__" in words, not words.isdisjoint(_TYPES))
    for one in code.co_consts:
        if isinstance(one, CodeType):
            found |= asked_by(one)
    return found


def subclasses_of(cls: type) -> list[type]:
    """Return the direct subclasses that a module still has under their names, in order.

    A cell that runs again leaves the former classes behind, until Python frees them.
    """
    found: list[type] = type.__subclasses__(cls)
    return [one for one in found if _is_current(one)]


def _is_current(cls: type) -> bool:
    module = sys.modules.get(cls.__module__)
    return module is not None and vars(module).get(cls.__qualname__) is cls


def annotated_names(
    thing: type | FunctionType, space: Mapping[str, Any], *, asked: bool
) -> list[str]:
    """Return the names of ``space`` in annotations of a class or function that are strings, sorted.

    Unless code has ``asked`` for types, those are the names in a class of data, whose annotations
    libraries read, and none that would need a library where they arrive.
    """
    if not asked and not (isinstance(thing, type) and has_typed_fields(thing)):
        return []
    try:
        texts = [one for one in inspect.get_annotations(thing).values() if isinstance(one, str)]
    except NameError:  # Python 3.14 evaluates annotations late, and a name is missing
        return []
    names = {name for text in texts for name in names_in(text) if name in space}
    return sorted(name for name in names if asked or _needs_no_library(space[name]))


def _needs_no_library(value: Any) -> bool:
    home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    top = str(home or type(value).__module__).partition(".")[0]
    return top in sys.stdlib_module_names or top == "__main__"
