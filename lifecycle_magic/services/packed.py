"""What packing a class returns, and the order of the names in it."""

from __future__ import annotations

import linecache
import logging
import types
from dataclasses import dataclass, field
from typing import Any, Protocol

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.fingerprint.origin import is_installed_path
from lifecycle_magic.wire import loggers
from lifecycle_magic.wire.module_objects import ModuleObject
from lifecycle_magic.wire.rerun_names import RerunName

__all__ = ["Key", "Packed", "ordered", "parts_left_behind", "sources_of"]

Key = tuple[str, str]  # a namespace, and a name there
SOURCE_LIMIT_CHARACTERS = 1 << 20  # characters of a class's source files

_PACKAGE_FOLDER = __file__.rpartition("services")[0]
_CONSTANTS = (bool, int, float, complex, str, bytes, type(None), types.BuiltinFunctionType)


@dataclass(frozen=True)
class Packed:
    """A class's pickle, the bytes that each name takes in it, and its functions.

    ``apart`` are pickles within the pickle. ``left_behind`` are sentences about parts of loggers
    that the class may use and that can't travel. ``from_releases`` are the names of objects that
    need the kernel's releases of their libraries.
    """

    data: bytes
    sizes: dict[str, int]
    functions: tuple[types.FunctionType, ...] = ()
    apart: tuple[bytes, ...] = ()
    left_behind: tuple[str, ...] = ()
    from_releases: dict[str, None] = field(default_factory=dict)


def ordered(values: dict[Key, Any]) -> list[Key]:
    """Return the names in the order in which the container reads them.

    First constants, builtins and objects of modules, then definitions, then the others, each after
    what it needs: reading a value may run a ``__new__``, ``__setstate__`` or ``__hash__`` of the
    user's code. A class attribute is read with its class, a default argument with its function: so
    functions that have no values come first.
    """
    constants = [key for key, one in values.items() if type(one) in (*_CONSTANTS, ModuleObject)]
    definitions = [key for key, value in values.items() if _is_definition(value)]
    definitions.sort(key=lambda one: not _is_code_alone(values[one]))
    first = {*constants, *definitions}
    others = reversed([key for key in values if key not in first])
    # Last what runs statements, which read the others.
    return [*constants, *definitions, *sorted(others, key=lambda one: _is_rerun(values[one]))]


def _is_rerun(value: Any) -> bool:
    return type(value) is RerunName


def _is_definition(value: Any) -> bool:
    return isinstance(value, (types.FunctionType, types.ModuleType)) or is_class(value)


def _is_code_alone(value: Any) -> bool:
    """Return whether a function has no defaults, closed-over values or attributes."""
    if not isinstance(value, types.FunctionType):
        return False
    return not (value.__defaults__ or value.__kwdefaults__ or value.__closure__ or vars(value))


def sources_of(files: set[str]) -> dict[str, str]:
    """Return the text of source files, up to a limit and as far as this process has it."""
    found: dict[str, str] = {}
    for name in sorted(files):
        if is_installed_path(name) or name.startswith(_PACKAGE_FOLDER):
            continue
        text = "".join(linecache.getlines(name))
        if text and sum(map(len, found.values())) + len(text) <= SOURCE_LIMIT_CHARACTERS:
            found[name] = text
    return found


class _Finder(Protocol):
    functions: list[types.FunctionType]

    def can_travel(self, value: Any) -> bool: ...


def parts_left_behind(values: list[Any], finder: _Finder) -> list[str]:
    """Return a sentence for each part of a logger that stays here, if the class uses loggers."""
    used = [one for one in values if isinstance(one, logging.Logger)]
    if used or any("logging" in one.__code__.co_names for one in finder.functions):
        return loggers.left_behind(used, finder.can_travel)
    return []
