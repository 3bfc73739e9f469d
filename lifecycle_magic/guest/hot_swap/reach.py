"""The search for code that reads, directly or through other values, what an edit changes."""

from __future__ import annotations

import functools
import gc
import logging
import sys
from collections.abc import Iterable
from types import (
    AsyncGeneratorType,
    CodeType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    ModuleType,
    TracebackType,
)
from typing import Any

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.guest.hot_swap.changes import Changes
from lifecycle_magic.guest.hot_swap.code_names import CodeNames, names_in
from lifecycle_magic.guest.hot_swap.same_content import is_cached
from lifecycle_magic.wire.by_value import OF_CLASSES, is_named

__all__ = ["Reach"]

_MAX_OBJECTS = 2_000_000
_LEAVES = (
    *(str, bytes, bytearray, int, float, complex, bool, type(None), CodeType, FrameType),
    *(TracebackType, GeneratorType, CoroutineType, AsyncGeneratorType, logging.Logger),
)


class Reach:
    """The names that live code reads, followed by name as Python resolves names.

    A name read from a value of an unknown type may be any attribute of that name of the user's
    classes. A class whose name the code reads counts with its special methods, and with all of its
    attributes as soon as a library may call them. So the answer may be yes although nothing is
    read, but not the other way round.
    """

    def __init__(self, changes: Changes, spaces: dict[int, str]) -> None:
        self._changes = changes
        self._spaces = spaces  # names of the user's namespaces, by the id of the namespace
        self._names = functools.lru_cache(maxsize=None)(names_in)

    def names(self, function: FunctionType) -> CodeNames:
        """Return the names in the code of a function."""
        return self._names(function.__code__)

    def touches(
        self,
        starts: Iterable[Any],
        *,
        skipped: Iterable[Any] = (),
        trusted: Iterable[FunctionType] = (),
    ) -> bool:
        """Return whether anything that the values ``starts`` read is changed by the edit.

        ``skipped`` are values that are not followed. The functions ``trusted`` do not count as
        changed themselves.
        """
        walk = _Walk(self, self._changes, self._spaces)
        walk.seen.update(map(id, skipped))
        walk.trusted.update(map(id, trusted))
        walk.waiting += starts
        return walk.run()


class _Walk:
    """One walk through live objects."""

    def __init__(self, reach: Reach, changes: Changes, spaces: dict[int, str]) -> None:
        self._reach, self._changes, self._spaces = reach, changes, spaces
        self.seen: set[int] = set()
        self.trusted: set[int] = set()
        self.waiting: list[Any] = []
        self._attributes: set[str] = set()
        self._keys: set[tuple[str, str]] = set()
        self._alive: list[Any] = []  # of ids in `seen`
        self._classes: list[type] = []  # followed by their special methods alone, so far
        self._is_open = False  # whether code may read attributes without their names in the code

    def run(self) -> bool:
        while self.waiting:
            value = self.waiting.pop()
            if isinstance(value, _LEAVES) or id(value) in self.seen:
                continue
            self.seen.add(id(value))
            self._alive.append(value)
            self._is_open = self._is_open or _calls_any_method(value)
            if len(self.seen) > _MAX_OBJECTS or self._follow(value):
                return True
            if self._is_open and any(map(self._all_members, self._taken_classes())):
                return True
        return False

    def _taken_classes(self) -> list[type]:
        found, self._classes = self._classes, []
        return found

    def _follow(self, value: Any) -> bool:
        """Queue what a value refers to. Return whether the edit changes the value itself."""
        if isinstance(value, FunctionType):
            return not is_named(value) and self._function(value)
        if is_class(value):
            return not is_named(value) and self._class(value)
        if isinstance(value, ModuleType):
            if sys.modules.get(value.__name__) is not value:  # made by the notebook's code
                self.waiting += vars(value).values()
        elif is_cached(value):
            self.waiting += [value.__wrapped__, vars(value)]  # not its results
        elif id(value) not in self._spaces and not _is_ours(value):
            self.waiting += gc.get_referents(value)
        return False

    def _function(self, function: FunctionType) -> bool:
        if id(function) in self._changes.functions and id(function) not in self.trusted:
            return True
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        # `super()` is followed by the names of the attributes that are read from it.
        self.waiting += [cell for name, cell in cells if name != "__class__"]
        self.waiting += [function.__defaults__, function.__kwdefaults__, vars(function)]
        space = self._spaces.get(id(function.__globals__))
        if space is None:
            return False  # a library's wrapper: the user's code is in what it closes over
        names = self._reach.names(function)
        self._is_open = self._is_open or names.is_open
        for name, attribute in names.globals:
            if self._read_global(space, name, attribute, function.__globals__):
                return True
        if any((space, name) in self._changes.names for name in names.strings):
            return True
        # Python calls the implicit ones on any object, without their names in the code.
        attributes = names.attributes | names.strings | self._changes.implicit
        return any(map(self._read_attribute, attributes))

    def _class(self, cls: type) -> bool:
        self.waiting += [*cls.__bases__, type(cls)]
        # The attributes of a class whose name a later class has taken are not among the members.
        is_compared = all(is_named(one) or id(one) in self._changes.compared for one in cls.__mro__)
        if self._is_open or _is_of_library(cls) or not is_compared:
            return self._all_members(cls)
        self._classes.append(cls)
        special = [name for name in vars(cls) if name[:2] == "__" == name[-2:]]
        changed = self._changes.classes.get(id(cls), set())
        if any(name[:2] == "__" == name[-2:] for name in changed):
            return True
        self.waiting += [vars(cls)[name] for name in special if name not in OF_CLASSES]
        return False

    def _all_members(self, cls: type) -> bool:
        if id(cls) in self._changes.classes:
            return True
        self.waiting += [one for name, one in vars(cls).items() if name not in OF_CLASSES]
        return False

    def _read_global(
        self, space: str, name: str, attribute: str | None, values: dict[str, Any]
    ) -> bool:
        if name not in values:
            return (space, name) in self._changes.names
        value = values[name]
        if attribute is not None and is_class(value) and not is_named(value):
            return (space, name) in self._changes.names or self._read_attribute(attribute)
        if (space, name) in self._changes.names:
            return True
        self.waiting.append(value)
        if not isinstance(value, _LEAVES):
            self._is_open = self._is_open or _calls_any_method(value)
        is_known = isinstance(value, ModuleType) or (is_class(value) and is_named(value))
        return attribute is not None and not is_known and self._read_attribute(attribute)

    def _read_attribute(self, name: str) -> bool:
        """Read an attribute from a value whose type is not known."""
        if name in self._attributes:
            return False
        self._attributes.add(name)
        for is_changed, value in self._changes.members.get(name, ()):
            if is_changed:
                return True
            self.waiting.append(value)
        return False


def _is_of_library(cls: type) -> bool:
    """Return whether a library may call any method of a user's class: it has a base or metaclass of
    that library.
    """
    libraries = (one for one in cls.__mro__ if is_named(one) and one.__module__ != "__main__")
    bases = any(one.__module__ not in _TRANSPARENT for one in libraries)
    return bases or (is_named(type(cls)) and type(cls).__module__ not in _TRANSPARENT)


_TRANSPARENT = frozenset({"builtins", "abc", "typing"})  # of bases that call special methods only

# Modules that call special methods of the objects that they get, and no others.
_PLAIN = frozenset(
    {
        *("_collections", "_functools", "_io", "_operator", "_random", "_thread", "abc", "bisect"),
        *("builtins", "cmath", "collections", "contextlib", "copy", "dataclasses", "datetime"),
        *("decimal", "enum", "fractions", "functools", "hashlib", "heapq", "itertools", "math"),
        *("operator", "os", "pathlib", "posix", "posixpath", "random", "re", "statistics"),
        *("string", "textwrap", "time", "types", "typing", "uuid", "weakref"),
    }
)


def _calls_any_method(value: Any) -> bool:
    """Return whether a value belongs to a library that may call methods by any name."""
    if isinstance(value, ModuleType):
        home = value.__name__
        if sys.modules.get(home) is not value:
            return False  # made by the notebook's code
    elif isinstance(value, FunctionType) or is_class(value):
        if not is_named(value):
            return False
        home = value.__module__
    else:
        home = type(value).__module__
        if not is_named(type(value)):
            return False
    return str(home).partition(".")[0] not in _PLAIN and not _is_ours(value)


def _is_ours(value: object) -> bool:
    """Return whether a value is a handle, or another object of this package."""
    return type(value).__module__.startswith("lifecycle_magic.")
