"""Results that code remembers, and that an edit makes wrong.

Plain Python forgets them: a cell that runs again makes a new cache. What a name of the notebook
itself holds (a global, a class attribute) is no memory but state, and stays.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterator, Mapping, MutableMapping, MutableSequence, MutableSet
from types import CodeType, FunctionType, MethodType
from typing import Any

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.guest.hot_swap.counterparts import (
    Counterparts,
    Triple,
    inner_functions,
    own_attributes,
)
from lifecycle_magic.guest.hot_swap.places import content
from lifecycle_magic.guest.hot_swap.reach import Reach
from lifecycle_magic.guest.hot_swap.same_content import MISSING, ContentReader, is_cached
from lifecycle_magic.wire.by_value import is_named
from lifecycle_magic.wire.code_objects import with_nested_codes

__all__ = ["find_stale"]

_CONTAINERS = (MutableMapping, MutableSequence, MutableSet)
_FUNCTIONS = (FunctionType, MethodType)
_Cached = type(functools.lru_cache(len))


def find_stale(
    cls: type,
    pairs: Counterparts,
    names: Mapping[tuple[str, str], Triple],
    contents: tuple[ContentReader, ContentReader],
    reach: Reach,
    *,
    has_caches: bool = True,
) -> list[str]:
    """Return the names of memories that hold results of code that the edit changes.

    ``contents`` read what was declared and what lives. ``has_caches`` says that functions with a
    `functools.lru_cache` are declared: looking for them takes some time in a large process.
    """
    memories = _Memories(cls, pairs, names, contents, reach)
    if has_caches or memories.may_make_caches():
        return [*memories.caches(), *memories.others()]
    return [*memories.others()]


class _Memories:
    """Every memory of the user's code, with what fills it."""

    def __init__(
        self,
        cls: type,
        pairs: Counterparts,
        names: Mapping[tuple[str, str], Triple],
        contents: tuple[ContentReader, ContentReader],
        reach: Reach,
    ) -> None:
        self._cls, self._pairs, self._names = cls, pairs, names
        self._base, self._live = contents
        self._reach = reach

    def may_make_caches(self) -> bool:
        """Return whether code may make functions with a cache while it runs."""
        return any(_names_cache(one.live.__code__) for _, one in self._pairs.functions)

    def others(self) -> Iterator[str]:
        """Yield the names of other memories than caches with results that the edit makes wrong."""
        yield from self._cells()
        yield from self._objects()
        yield from self._parts_of_functions()
        yield from self._lazy_globals()
        yield from self._properties()

    def caches(self) -> Iterator[str]:
        """Yield the functions with a `functools.lru_cache` whose results the edit makes wrong,
        wherever they are stored.
        """
        for one in gc.get_referrers(_Cached):
            if not is_cached(one) or not one.cache_info().currsize:
                continue
            if self._reach.touches([one.__wrapped__]):
                yield _name(one.__wrapped__)

    def _cells(self) -> Iterator[str]:
        """Yield the closure cells in which a decorator keeps results."""
        users: dict[int, list[FunctionType]] = {}
        for _, triple in self._pairs.functions:
            for cell in triple.live.__closure__ or ():
                users.setdefault(id(cell), []).append(triple.live)
        for path, triple in self._pairs.cells:
            values = Triple(*map(content, triple))
            if self._is_memory(values) and self._reach.touches(
                users.get(id(triple.live), ()), skipped=[values.live]
            ):
                yield path

    def _objects(self) -> Iterator[str]:
        """Yield the objects that stand for a function and have changed: decorators that are
        classes.
        """
        for path, triple in self._places():
            live = triple.live
            if type(live) is not type(triple.base) and not self._are_alike(triple):
                continue
            if is_class(live) or isinstance(live, _FUNCTIONS) or not callable(live):
                continue
            held = [one for one in getattr(live, "__dict__", {}).values() if callable(one)]
            own = type(live).__call__
            if held and self._has_changed(triple) and self._reach.touches([*held, own]):
                yield path

    def _are_alike(self, triple: Triple) -> bool:
        return self._pairs.correspond(Triple(*map(type, triple)))

    def _places(self) -> Iterator[tuple[str, Triple]]:
        """Yield what names, class attributes and cells hold."""
        for (_, name), triple in self._names.items():
            yield name, triple
        for path, triple in self._pairs.classes:
            for name in vars(triple.live):
                values = (vars(one).get(name, MISSING) for one in triple)
                yield f"{path}.{name}", Triple(*values)
        for path, triple in self._pairs.cells:
            yield path, Triple(*map(content, triple))

    def _parts_of_functions(self) -> Iterator[str]:
        """Yield the defaults and attributes in which a function keeps results of other code."""
        for path, triple in self._pairs.functions:
            for name, values in _own_places(triple):
                if self._is_memory(values) and self._reach.touches(
                    [triple.live], skipped=[values.live], trusted=[triple.live]
                ):
                    yield f"{path}{name}"

    def _lazy_globals(self) -> Iterator[str]:
        """Yield the globals that a helper function has filled at its first call."""
        own = {
            id(one)
            for cls in self._cls.__mro__
            for value in vars(cls).values()
            for one in inner_functions(value)
        }
        helpers = [one.live for _, one in self._pairs.functions if id(one.live) not in own]
        for (_, name), values in self._names.items():
            if values.base is not None or values.live in (None, MISSING):
                continue
            for helper in helpers:
                names = self._reach.names(helper)
                reads = any(name == one for one, _ in names.globals)
                if (
                    reads
                    and name in names.stored
                    and self._reach.touches([helper], skipped=[values.live], trusted=[helper])
                ):
                    yield name

    def _properties(self) -> Iterator[str]:
        """Yield the `functools.cached_property` of classes whose instances hold a value of it."""
        for path, triple in self._pairs.classes:
            cls = triple.live
            for name, value in vars(cls).items():
                if (
                    isinstance(value, functools.cached_property)
                    and self._reach.touches([value.func])
                    and any(name in _own_dict(one) for one in _instances_of(cls))
                ):
                    yield f"{path}.{name}"

    def _is_memory(self, values: Triple) -> bool:
        """Return whether code has put results into a place: into an object there, or a value where
        there was None.
        """
        live = values.live
        if live is None or live is MISSING or is_class(live) or isinstance(live, _FUNCTIONS):
            return False
        is_store = isinstance(live, _CONTAINERS) or not is_named(type(live))
        return values.base is None or (is_store and self._has_changed(values))

    def _has_changed(self, values: Triple) -> bool:
        live = self._live.of(values.live)
        return live is None or live != self._base.of(values.base)


def _own_places(triple: Triple) -> Iterator[tuple[str, Triple]]:
    """Yield the defaults and attributes of a function that are declared alike."""
    defaults = [one.__defaults__ or () for one in triple]
    if len(set(map(len, defaults))) == 1:
        for values in zip(*defaults, strict=True):
            yield "()", Triple(*values)
    for read in (_keyword_defaults, own_attributes):
        found = [read(one) for one in triple]
        for name in found[1]:
            if name != "__wrapped__" and name in found[0]:
                yield f".{name}", Triple(*(one.get(name, MISSING) for one in found))


def _keyword_defaults(function: FunctionType) -> dict[str, Any]:
    return function.__kwdefaults__ or {}


def _own_dict(value: object) -> dict[str, Any]:
    return getattr(value, "__dict__", {})


def _instances_of(cls: type) -> Iterator[Any]:
    """Yield the live instances of a class and of its subclasses."""
    waiting: list[type] = [cls]
    seen = {cls}
    while waiting:
        one = waiting.pop()
        yield from (value for value in gc.get_referrers(one) if type(value) is one)
        subclasses: list[type] = type.__subclasses__(one)
        derived = [sub for sub in subclasses if sub not in seen]
        seen.update(derived)
        waiting += derived


def _name(function: Any) -> str:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return str(name).rpartition("<locals>.")[2]


def _names_cache(code: CodeType) -> bool:
    codes = with_nested_codes(code)
    return any("lru_cache" in one.co_names or "cache" in one.co_names for one in codes)
