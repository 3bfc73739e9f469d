"""The changes of an edit in the declarations, by the live objects concerned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lifecycle_magic.guest.hot_swap.counterparts import Counterparts, Triple, own_attributes
from lifecycle_magic.guest.hot_swap.places import content
from lifecycle_magic.guest.hot_swap.same_content import MISSING, ContentReader, behaviour
from lifecycle_magic.wire.by_value import OF_CLASSES, OF_ENUMS, is_enum, is_slot

__all__ = ["DECLARED", "Changes", "find_changes"]

# Attributes of a class that only its declaration decides: nothing at run time changes them.
DECLARED = frozenset(
    {
        "__abstractmethods__",
        "__annotations__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__doc__",
        "__firstlineno__",
        "__match_args__",
        "__parameters__",
        "__static_attributes__",
    }
)
# Special methods that Python calls only where code names their class, or not at all at run time.
_CALLED_BY_NAME = frozenset({"__init__", "__new__", "__init_subclass__", "__post_init__"})


@dataclass
class Changes:
    """The differences of two declarations.

    ``names`` are a namespace and a name in it. ``functions`` are ids of live objects. ``classes``
    has the names of changed attributes by the ids of live classes. ``members`` has all attributes
    of the user's classes by their name: whether the edit changes each one, and its live value.
    ``compared`` are the ids of the live classes whose attributes these are. ``implicit`` are those
    of ``members`` that Python calls without their name in the code.
    """

    names: set[tuple[str, str]] = field(default_factory=set)
    functions: set[int] = field(default_factory=set)
    classes: dict[int, set[str]] = field(default_factory=dict)
    members: dict[str, list[tuple[bool, Any]]] = field(default_factory=dict)
    compared: set[int] = field(default_factory=set)
    implicit: set[str] = field(default_factory=set)

    @property
    def are_none(self) -> bool:
        """Return whether the declarations do the same."""
        return not (self.names or self.functions or self.classes)


def find_changes(
    pairs: Counterparts,
    names: Mapping[tuple[str, str], Triple],
    base: ContentReader,
    new: ContentReader,
) -> Changes:
    """Compare two declarations by the objects that correspond to each other in them."""

    def differ(triple: Triple) -> bool:
        if pairs.correspond(triple):
            return False
        before = base.of(triple.base)
        return before is None or before != new.of(triple.new)

    found = Changes()
    found.names = {key for key, triple in names.items() if differ(triple)}
    for _, triple in pairs.functions:
        if behaviour(triple.base.__code__) != behaviour(triple.new.__code__) or any(
            map(differ, _parts_of_function(triple))
        ):
            found.functions.add(id(triple.live))
    for _, triple in pairs.classes:
        found.compared.add(id(triple.live))
        for name, values in _members(triple):
            is_changed = differ(values)
            if is_changed:
                found.classes.setdefault(id(triple.live), set()).add(name)
            found.members.setdefault(name, []).append((is_changed, values.live))
            if name[:2] == "__" == name[-2:] and name not in _CALLED_BY_NAME:
                found.implicit.add(name)
    return found


def _parts_of_function(triple: Triple) -> list[Triple]:
    parts = [
        Triple(*(getattr(one, name) for one in triple))
        for name in ("__defaults__", "__kwdefaults__")
    ]
    own = [own_attributes(one) for one in triple]
    parts += [Triple(*(one.get(name, MISSING) for one in own)) for name in {*own[0], *own[2]}]
    cells = zip(*(one.__closure__ or () for one in triple), strict=True)
    return parts + [Triple(*map(content, values)) for values in cells]


def _members(triple: Triple) -> list[tuple[str, Triple]]:
    skipped = OF_CLASSES | DECLARED
    if is_enum(triple.base):
        skipped |= OF_ENUMS | triple.base.__members__.keys()
    spaces = [vars(one) for one in triple]
    found = []
    for name in dict.fromkeys([*spaces[0], *spaces[1], *spaces[2]]):
        values = Triple(*(space.get(name, MISSING) for space in spaces))
        if name not in skipped and not any(map(is_slot, values)):
            found.append((name, values))
    return found
