"""Whether code reads, directly or through other code and values, anything that an edit changes."""

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
    """What live code reads, followed by name as Python resolves names.

    A name read from a value of an unknown type may be any attribute of that name of the user's
    classes. So the answer may be yes although nothing is read, but not the other way round.
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

    def run(self) -> bool:
        while self.waiting:
            value = self.waiting.pop()
            if isinstance(value, _LEAVES) or id(value) in self.seen:
                continue
            self.seen.add(id(value))
            self._alive.append(value)
            if len(self.seen) > _MAX_OBJECTS or self._follow(value):
                return True
        return False

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
        for name, attribute in names.globals:
            if self._read_global(space, name, attribute, function.__globals__):
                return True
        if any((space, name) in self._changes.names for name in names.strings):
            return True
        # Python calls the implicit ones on any object, without their names in the code.
        attributes = names.attributes | names.strings | self._changes.implicit
        return any(map(self._read_attribute, attributes))

    def _class(self, cls: type) -> bool:
        if id(cls) in self._changes.classes:
            return True
        self.waiting += [one for name, one in vars(cls).items() if name not in OF_CLASSES]
        self.waiting += [*cls.__bases__, type(cls)]
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


def _is_ours(value: object) -> bool:
    """Return whether a value is a handle, or another object of this package."""
    return type(value).__module__.startswith("lifecycle_magic.")
