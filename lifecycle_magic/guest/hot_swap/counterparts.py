"""Counterparts in three copies of the user's code: as declared, as it lives, and as it is now."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import CellType, FunctionType, MappingProxyType
from typing import Any, NamedTuple

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.guest.hot_swap.same_content import MISSING, is_cached
from lifecycle_magic.guest.own_class import CALL_MARKERS
from lifecycle_magic.wire.by_value import OF_CLASSES, is_named

__all__ = ["Counterparts", "Triple", "inner_functions"]

_MAX_ITEMS = 1000  # items of a container that are searched for functions


class Triple(NamedTuple):
    """One object in three versions: as it was declared, as it lives, and as it is declared now."""

    base: Any
    live: Any
    new: Any


class Counterparts:
    """Functions, classes and cells that can be changed in place, and how they correspond.

    ``numbers`` has one number for the three versions of each, by ``id``.
    """

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self.functions: list[tuple[str, Triple]] = []
        self.classes: list[tuple[str, Triple]] = []
        self.cells: list[tuple[str, Triple]] = []
        self._lives: list[Any] = []
        self._seen: set[tuple[int, ...]] = set()

    def has(self, thing: object) -> bool:
        """Return whether ``thing`` has a counterpart in the other copies."""
        return id(thing) in self.numbers

    def live_of(self, thing: object) -> Any:
        """Return the live counterpart of an object."""
        return self._lives[self.numbers[id(thing)]]

    def correspond(self, triple: Triple) -> bool:
        """Return whether these three correspond to each other."""
        numbers = {self.numbers.get(id(one)) for one in triple}
        return len(numbers) == 1 and None not in numbers

    def walk(self, path: str, triple: Triple) -> None:
        """Pair three objects and their parts, as far as they are alike."""
        waiting = [(path, triple)]
        while waiting:
            path, triple = waiting.pop()
            # A container may hold itself, or one of its parts many times.
            place = tuple(map(id, triple))
            if place in self._seen:
                continue
            self._seen.add(place)
            if any(one is MISSING or self.has(one) for one in triple):
                continue
            kinds = set(map(type, triple))
            if kinds == {FunctionType}:
                if _are_alike(triple):
                    self._pair(self.functions, path, triple)
                    waiting += _in_function(path, triple)
            elif all(is_class(one) for one in triple):
                if len({one.__qualname__ for one in triple}) == 1 and not is_named(triple.base):
                    self._pair(self.classes, path, triple)
                    waiting += _in_class(path, triple)
            elif kinds == {CellType}:
                self._pair(self.cells, path, triple)
                waiting += _in_cell(path, triple)
            elif len(kinds) == 1:
                waiting += _in_others(path, triple)

    def _pair(self, found: list[tuple[str, Triple]], path: str, triple: Triple) -> None:
        for one in triple:
            self.numbers[id(one)] = len(self._lives)
        self._lives.append(triple.live)
        found.append((path, triple))


def _are_alike(triple: Triple) -> bool:
    """Return whether a live function is the declared one, and can become the new one in place."""
    base, live, new = (one.__code__ for one in triple)
    return (
        (live is base or live == base)
        and live.co_freevars == new.co_freevars
        and not is_named(triple.base)
        and triple.base.__globals__.get("__name__") == triple.new.__globals__.get("__name__")
    )


Found = Iterator[tuple[str, Triple]]


def _in_function(path: str, triple: Triple) -> Found:
    names = triple.live.__code__.co_freevars
    for number, name in enumerate(names):
        yield f"{path} → {name}", Triple(*(one.__closure__[number] for one in triple))
    defaults = [one.__defaults__ or () for one in triple]
    if len(set(map(len, defaults))) == 1:
        yield from ((path, Triple(*values)) for values in zip(*defaults, strict=True))
    yield from _in_mapping(path, Triple(*map(own_attributes, triple)))


def own_attributes(function: FunctionType) -> dict[str, Any]:
    """Return a function's ``__dict__`` without this package's attributes."""
    return {k: v for k, v in vars(function).items() if type(v) not in CALL_MARKERS}


def _in_class(path: str, triple: Triple) -> Found:
    for name in vars(triple.base):
        if name not in OF_CLASSES and all(name in vars(one) for one in triple):
            yield f"{path}.{name}", Triple(*(vars(one)[name] for one in triple))


def _in_cell(path: str, triple: Triple) -> Found:
    try:
        yield path, Triple(*(one.cell_contents for one in triple))
    except ValueError:
        return


def _in_mapping(path: str, triple: Triple) -> Found:
    if len(triple.base) <= _MAX_ITEMS:
        for key in triple.base:
            if all(key in one for one in triple):
                yield f"{path}[{key!r}]", Triple(*(one[key] for one in triple))


def _in_others(path: str, triple: Triple) -> Found:
    """Yield functions inside objects of decorators and inside small containers."""
    base = triple.base
    if isinstance(base, (dict, MappingProxyType)):
        yield from _in_mapping(path, triple)
    elif isinstance(base, (list, tuple)):
        if len(set(map(len, triple))) == 1 and len(base) <= _MAX_ITEMS:
            yield from ((path, Triple(*values)) for values in zip(*triple, strict=True))
    else:
        for number in range(len(inner_parts(base))):
            parts = [inner_parts(one) for one in triple]
            if len(set(map(len, parts))) == 1:
                yield path, Triple(*(one[number] for one in parts))


def inner_parts(value: Any) -> list[Any]:
    """Return what a decorator's object keeps of what it decorates, with None for gaps."""
    if isinstance(value, property):
        return [value.fget, value.fset, value.fdel]
    if isinstance(value, (staticmethod, classmethod)):
        return [value.__func__]
    if isinstance(value, (functools.cached_property, functools.partial, functools.partialmethod)):
        return [value.func]
    if isinstance(value, functools.singledispatchmethod):
        return [value.func, value.dispatcher]
    if is_cached(value):
        return [value.__wrapped__]
    return []


def inner_functions(value: Any) -> list[Any]:
    """Return the functions and classes that a value is or wraps."""
    if value is MISSING or value is None:
        return []
    if is_class(value) or isinstance(value, FunctionType):
        return [] if is_named(value) else [value]
    return [found for part in inner_parts(value) for found in inner_functions(part)]
