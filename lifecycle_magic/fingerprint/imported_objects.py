"""Objects of modules that a notebook has imported by name: ``from os import environ``.

A container has such a module itself. A copy of the object there would have a content of its own,
which the module's functions neither read nor change.
"""

from __future__ import annotations

import enum
import functools
import logging
import os
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from lifecycle_magic.fingerprint.origin import is_installed, is_ours
from lifecycle_magic.wire.reducers import reducer_of

__all__ = ["Place", "collection_of_library", "of_library", "places_in_modules", "places_of_parts"]

Place = tuple[str, str]
"""A module's name, and the name of an object there."""

_FOUND_BY_NAME = (
    *(FunctionType, BuiltinFunctionType, MethodType, ModuleType, type),
    *(enum.Enum, logging.Logger),
)
_CONSTANTS = (bool, int, float, complex, bytes, type(None), type(...), tuple, frozenset)
_COLLECTIONS = (dict, list, set, bytearray, deque, defaultdict, OrderedDict, Counter, os._Environ)
_OF_NO_LIBRARY = ("__main__", "builtins")
_WITH_PATHS = ("sys", "os")


def of_library(name: str, value: object) -> Place | None:
    """Return where the standard library has an object that can change; None for other values.

    >>> of_library("environ", os.environ)
    ('os', 'environ')
    """
    if isinstance(value, str):  # a container has paths of its own: sys.executable
        return _in(_WITH_PATHS, name, value) if os.sep in value else None
    if not _may_be_shared(value):
        return None
    kind = type(value).__module__
    own = (*_WITH_PATHS, kind) if kind in sys.stdlib_module_names else _WITH_PATHS
    found = _in(_public_library(len(sys.modules)), name, value) or _by_identity(own, value)
    return None if found is None or _travels_by_name(value) else found


def collection_of_library(value: object) -> Place | None:
    """Return where the standard library has a collection that no name of the notebook leads to:
    a default argument, say. None for other values.

    >>> collection_of_library(sys.path)
    ('sys', 'path')
    """
    place = _installed_place(value)
    return place if place is not None and _top(place[0]) in sys.stdlib_module_names else None


def places_of_parts(
    parts: Mapping[int, object], functions: Iterable[FunctionType], except_for: str
) -> Iterator[tuple[object, Place, bool]]:
    """Yield what modules have of the objects ``parts``, which have their ids, where, and whether
    its content is the notebook's.

    These are defaults, closed-over values, and attributes: no name leads to them. All objects of
    modules next to the notebook count, and public collections of the standard library and of the
    libraries that ``functions`` name.
    """
    known: dict[str, bool] = {}
    for module, names in _namespaces(list(sys.modules)):
        top = _top(module)
        if top not in known:
            known[top] = is_installed(top) or top in _OF_NO_LIBRARY or is_ours(top)
        if known[top] or module == except_for:
            continue
        for name, value in list(names.items()):
            if id(value) not in parts or name[:2] == "__" or not _may_be_shared(value):
                continue
            if not is_ours(type(value).__module__) and not _travels_by_name(value):
                yield value, (module, name), True
    read = {name for function in functions for name in _read_modules(function)}
    for value in parts.values():
        if (place := _installed_place(value)) is not None:
            is_library = _top(place[0]) in sys.stdlib_module_names
            if is_library or _top(place[0]) in read:
                yield value, place, not is_library


def _installed_place(value: object) -> Place | None:
    if type(value) not in _COLLECTIONS:
        return None
    place = _installed_collections(len(sys.modules)).get(id(value))
    if place is None or vars(sys.modules.get(place[0], os)).get(place[1]) is not value:
        return None
    return place


def _read_modules(function: FunctionType) -> Iterator[str]:
    """Yield the top-level names of the modules that a function reads or imports."""
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        module = value.__name__ if isinstance(value, ModuleType) else name
        if module in sys.modules:
            yield _top(module)


def places_in_modules(
    values: Iterable[tuple[str, object]], except_for: str
) -> Iterator[tuple[object, Place]]:
    """Yield the values that a module has which others of ``values`` come from, and where.

    Where nothing else comes from the module, nothing else can see the object. ``values`` have the
    names under which the notebook knows them; ``except_for`` is a module that travels by value.
    """
    named = list(values)
    tops = {_module_of(value).partition(".")[0] for _, value in named} - sys.stdlib_module_names
    modules = [
        name
        for name in list(sys.modules)
        if name.partition(".")[0] in tops and not is_ours(name) and name != except_for
    ]
    local = [name for name in modules if not is_installed(name)]
    for name, value in named:
        if _may_be_shared(value) and not is_ours(type(value).__module__):
            place = _in(modules, name, value) or _by_identity(local, value)
            if place is not None and not _travels_by_name(value):
                yield value, place


def _top(module: str) -> str:
    return module.partition(".")[0]


def _module_of(value: Any) -> str:
    if isinstance(value, ModuleType):
        return value.__name__
    made = value if isinstance(value, (FunctionType, type)) else type(value)
    name: Any = made.__module__
    return name if isinstance(name, str) and name not in _OF_NO_LIBRARY else ""


def _may_be_shared(value: object) -> bool:
    return not isinstance(value, (*_FOUND_BY_NAME, *_CONSTANTS, str)) and not reducer_of(
        type(value)
    )


def _travels_by_name(value: Any) -> bool:
    """Return whether pickle sends an object by its name anyway."""
    try:
        return isinstance(value.__reduce_ex__(4), str)
    except Exception:  # it can't be pickled, or its own code raises
        return False


def _in(modules: Iterable[str], name: str, value: object) -> Place | None:
    for module, names in _namespaces(modules):
        if names.get(name) is value:
            return module, name
    return None


def _by_identity(modules: Iterable[str], value: object) -> Place | None:
    """Return the place of a value that the notebook has under another name."""
    for module, names in _namespaces(modules):
        for name, one in list(names.items()):
            if one is value and name[:2] != "__":
                return module, name
    return None


def _namespaces(modules: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in modules:
        module = sys.modules.get(name)
        if isinstance(module, ModuleType):
            yield name, vars(module)


@functools.lru_cache(maxsize=1)
def _installed_collections(_: int) -> dict[int, Place]:
    """Return where installed modules have public collections, by the ids of these."""
    library = _public_library(len(sys.modules))
    modules = [one for one in list(sys.modules) if "._" not in one and is_installed(one)]
    found: dict[int, Place] = {}
    for module, names in _namespaces(dict.fromkeys((*library, *modules))):
        for name, value in list(names.items()):
            if type(value) in _COLLECTIONS and name[:1] != "_":
                found.setdefault(id(value), (module, name))
    return found


@functools.lru_cache(maxsize=1)
def _public_library(_: int) -> tuple[str, ...]:
    """Return the public modules of the standard library that are imported."""
    tops = sys.stdlib_module_names - set(_OF_NO_LIBRARY)
    return tuple(
        name
        for name in list(sys.modules)
        if name.partition(".")[0] in tops and not any(p[:1] == "_" for p in name.split("."))
    )
