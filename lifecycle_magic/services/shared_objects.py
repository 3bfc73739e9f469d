"""Values of a packed class that are objects of modules, and mean those of the container there."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from typing import Any

from lifecycle_magic.fingerprint import imported_objects
from lifecycle_magic.services.packed import Key
from lifecycle_magic.services.web_applications import is_application
from lifecycle_magic.wire import definition_load
from lifecycle_magic.wire.module_objects import ModuleObject

__all__ = ["named", "parts"]


def named(values: Mapping[Key, Any], own: str) -> dict[Key, ModuleObject]:
    """Return the names whose values a module has, with what they mean in the container.

    ``own`` is the module of the class, which travels by value.
    """
    mine = [
        (key, value)
        for key, value in values.items()
        if not key[0].startswith(definition_load.MODULE) and not is_application(value)
    ]
    places = imported_objects.places_in_modules([(key[1], value) for key, value in mine], own)
    found = {id(value): place for value, place in places}
    return {
        key: ModuleObject(*found[id(value)], value, with_content=True)
        for key, value in mine
        if id(value) in found
    }


def parts(
    memo: Mapping[int, tuple[int, Any]],
    values: Mapping[Key, Any],
    functions: Iterable[types.FunctionType],
    own: str,
) -> list[ModuleObject]:
    """Return the objects of modules among those that a pickler has written, its ``memo``, without
    the named ``values``.
    """
    names = {id(one.value if type(one) is ModuleObject else one) for one in values.values()}
    inside = {key: one for key, (_, one) in memo.items() if key not in names}
    found = {
        id(value): ModuleObject(*place, value, with_content=with_content)
        for value, place, with_content in imported_objects.places_of_parts(inside, functions, own)
    }
    return list(found.values())
