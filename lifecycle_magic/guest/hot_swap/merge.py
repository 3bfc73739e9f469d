"""New code for live objects: a three-way merge of declared code, live objects and new code.

Functions and classes are changed in place, so that every reference to them (bound methods that
``enter`` stored, instances of helper classes, closures) uses the new code. Every other name is
decided by itself. If its declaration did not change, the container's value stays. If the
container's value did not change, the new value is taken. If both changed, no value is right, and
the container has to be replaced. Everything is checked before anything changes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

from lifecycle_magic.guest.hot_swap import class_shape, places
from lifecycle_magic.guest.hot_swap.changes import DECLARED, find_changes
from lifecycle_magic.guest.hot_swap.counterparts import (
    Counterparts,
    Triple,
    inner_functions,
    own_attributes,
)
from lifecycle_magic.guest.hot_swap.memories import find_stale
from lifecycle_magic.guest.hot_swap.reach import Reach
from lifecycle_magic.guest.hot_swap.same_content import MISSING, ContentReader
from lifecycle_magic.guest.hot_swap.shared_values import find_shared
from lifecycle_magic.wire import definition_load, definitions, name_table
from lifecycle_magic.wire.by_value import OF_CLASSES, OF_ENUMS, is_slot
from lifecycle_magic.wire.messages import OF_CLASS, OF_MEMORY, SwapConflict
from lifecycle_magic.wire.name_table import NameTable
from lifecycle_magic.wire.reducers import make_cached_function

__all__ = ["Merged", "merge"]

_OF_FUNCTIONS = ("__annotations__", "__doc__", "__module__", "__name__", "__qualname__")


@dataclass(frozen=True)
class Merged:
    """A merge that was installed: the content of its source files, and a function that undoes
    it.
    """

    sources: dict[str, str]
    undo: Callable[[], None]


def merge(cls: type, spaces: places.Spaces, declared: bytes, data: bytes) -> Merged:
    """Install the code in ``data`` for a class and namespaces that were declared as ``declared``.

    Raises `SwapConflict` with the names that can't be decided, or what loading ``data`` raises. In
    both cases nothing has changed.
    """
    base = name_table.read(declared, {}, scratch=True)
    new = name_table.read(data, {}, scratch=True)
    plan = _Plan(
        cls, spaces, base, new, has_caches=make_cached_function.__name__.encode() in declared
    )
    plan.check()
    return _install(plan, spaces, data)


@dataclass
class _Change:
    """One change to install: ``put`` gets the value that ``find`` reads from the final load."""

    put: places.Put
    find: places.Find


@dataclass
class _Plan:
    """The changes to install, and the conflicts that prevent them."""

    cls: type
    spaces: places.Spaces
    base: NameTable
    new: NameTable
    has_caches: bool = True  # whether functions with a cache are declared
    changes: list[_Change] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    taken: list[tuple[str, Any]] = field(default_factory=list)
    kept: list[Any] = field(default_factory=list)

    def check(self) -> None:
        """Decide every name. Raises `SwapConflict`."""
        self.pairs = Counterparts()
        roots = list(self._roots())
        for path, triple in roots:
            self.pairs.walk(path, triple)
        numbers = self.pairs.numbers
        self._base_content, self._live_content, self._new_content = (
            ContentReader(numbers),
            ContentReader(numbers),
            ContentReader(numbers),
        )
        if not self.pairs.has(self.new.cls):
            raise SwapConflict(self.cls.__name__)
        self._find_stale_memories(
            dict(zip(self._keys(), (one for _, one in roots[1:]), strict=True))
        )
        for (space, name), (_, triple) in zip(self._keys(), roots[1:], strict=True):
            if triple.new is MISSING and self._decide(triple) == "conflict":
                continue  # no code reads the name any more, but an object holds its value
            put = places.into_name(self.spaces, space, name)
            self._plan_name(name, triple, put, places.of_name(space, name))
        for path, triple in self.pairs.functions:
            self._function(path, triple)
        for path, triple in self.pairs.classes:
            self._class(path, triple)
        for path, triple in self.pairs.cells:
            self._cell(path, triple)
        self.conflicts += find_shared(self.taken, self.kept, numbers)
        if self.conflicts:
            raise SwapConflict(*dict.fromkeys(self.conflicts))

    def _find_stale_memories(self, names: dict[tuple[str, str], Triple]) -> None:
        """Find what code remembers of results that this edit makes wrong."""
        changes = find_changes(self.pairs, names, self._base_content, self._new_content)
        if changes.are_none:
            return
        spaces = {
            id(values): name
            for name, values in self.spaces.items()
            if not name.startswith(definition_load.STDLIB)
        }
        contents = self._base_content, self._live_content
        reach = Reach(changes, spaces)
        found = find_stale(self.cls, self.pairs, names, contents, reach, has_caches=self.has_caches)
        self.conflicts += (name + OF_MEMORY for name in found)

    def _keys(self) -> list[tuple[str, str]]:
        return list(dict.fromkeys([*self.base.names, *self.new.names]))

    def _roots(self) -> Iterator[tuple[str, Triple]]:
        yield self.cls.__name__, Triple(self.base.cls, self.cls, self.new.cls)
        for key in self._keys():
            space, name = key
            live = definition_load.space_of(self.spaces, space).get(name, MISSING)
            yield (
                name,
                Triple(self.base.names.get(key, MISSING), live, self.new.names.get(key, MISSING)),
            )

    # --- one name ------------------------------------------------------------------------

    def _plan_name(self, path: str, triple: Triple, put: places.Put, find: places.Find) -> None:
        """Decide one name and plan the change that follows."""
        decision = self._decide(triple)
        if decision == "conflict":
            self.conflicts.append(path)
        elif decision == "take":
            if triple.new is not MISSING:
                self.taken.append((path, triple.new))
            self.changes.append(_Change(put, find))
        elif triple.new is not MISSING:
            self.kept.append(triple.new)

    def _decide(self, triple: Triple) -> str:
        if self.pairs.correspond(triple):
            return "keep"
        base, new = self._base_content.of(triple.base), self._new_content.of(triple.new)
        if base is not None and base == new:
            return "keep"
        live = self._live_content.of(triple.live)
        if triple.live is MISSING and triple.base is not MISSING:
            return "conflict"  # deleted in the container, and changed in the notebook
        if live is not None and live == base:
            return "conflict" if self._is_used(triple) else "take"
        return "keep" if live is not None and live == new else "conflict"

    def _is_used(self, triple: Triple) -> bool:
        """Return whether an object holds a function or class that loses its name.

        Its counterpart in the declared copy is held only by the declaration, and by the lists of
        what its load created and named.
        """
        lives, bases = inner_functions(triple.live), inner_functions(triple.base)
        if len(lives) != len(bases):
            return True
        return any(
            sys.getrefcount(lives[number])
            > sys.getrefcount(bases[number])
            - 1
            - sum(one is bases[number] for one in self.base.names.values())
            for number in range(len(lives))
            if not self.pairs.has(lives[number])  # it gets its new code in place
        )

    # --- functions -----------------------------------------------------------------------

    def _function(self, path: str, triple: Triple) -> None:
        base, live, new = triple.base, triple.live, triple.new
        code = new.__code__
        if base.__code__ != code or base.__code__.co_filename != code.co_filename:
            self.changes.append(_Change(places.into_attribute(live, "__code__"), lambda _: code))
        self._defaults(path, triple)
        for name in _OF_FUNCTIONS:
            values = Triple(*(getattr(one, name, MISSING) for one in triple))
            if self._base_content.of(values.base) != self._new_content.of(values.new):
                put = places.into_attribute(live, name)
                self.changes.append(_Change(put, places.of_function(live, name)))
        for key in _keys(*map(own_attributes, triple)):
            if key == "__wrapped__" and self.pairs.correspond(_items(triple, key)):
                continue
            self._plan_name(
                f"{path}.{key}",
                _items(triple, key),
                places.into_item(vars(live), key),
                places.of_item(live, key),
            )

    def _defaults(self, path: str, triple: Triple) -> None:
        """Plan each default by itself: a mutable default may have been changed."""
        of_live = triple.live.__defaults__ or ()
        lengths = {len(one.__defaults__ or ()) for one in triple}
        if len(lengths) == 1:
            for number in range(len(of_live)):
                values = Triple(*(one.__defaults__[number] for one in triple))
                name = _argument(triple.live, number)
                put = places.into_default(triple.live, number)
                self._plan_name(
                    f"{path}({name}=)", values, put, places.of_default(triple.live, number)
                )
        else:
            values = Triple(*(one.__defaults__ or MISSING for one in triple))
            put = places.into_attribute(triple.live, "__defaults__")
            self._plan_name(
                f"{path}()", values, put, places.of_function(triple.live, "__defaults__")
            )
        named = Triple(*(one.__kwdefaults__ or {} for one in triple))
        for key in _keys(*named):
            put = places.into_keyword(triple.live, key)
            found = places.of_keyword(triple.live, key)
            self._plan_name(f"{path}({key}=)", _items_of(named, key), put, found)

    def _cell(self, path: str, triple: Triple) -> None:
        values = Triple(*map(places.content, triple))
        self._plan_name(path, values, places.into_cell(triple.live), places.of_cell(triple.live))

    # --- classes -------------------------------------------------------------------------

    def _contents(self) -> tuple[ContentReader, ContentReader, ContentReader]:
        return self._base_content, self._live_content, self._new_content

    def _class(self, path: str, triple: Triple) -> None:
        base, live = triple.base, triple.live
        members = getattr(base, "__members__", {}) if hasattr(base, "_member_map_") else {}
        if differing := class_shape.find_differing(triple, self._contents()):
            self.conflicts += (f"{one.format(path)}{OF_CLASS}" for one in differing)
            return
        skipped = OF_CLASSES | (OF_ENUMS if members else frozenset()) | members.keys()
        for name in _keys(*map(vars, triple)):
            values = _items(triple, name)
            if name in skipped or any(is_slot(one) for one in values):
                continue
            put, find = places.into_class(live, name), places.of_class(live, name)
            if name in DECLARED:
                if self._base_content.of(values.base) != self._new_content.of(values.new):
                    self.changes.append(_Change(put, find))
            else:
                self._plan_name(f"{path}.{name}", values, put, find)


# --- installing ----------------------------------------------------------------------------------


def _install(plan: _Plan, spaces: places.Spaces, data: bytes) -> Merged:
    """Carry out a plan, whole or not at all."""
    live_objects = {
        number: plan.pairs.live_of(made)
        for number, made in enumerate(plan.new.made)
        if plan.pairs.has(made)
    }
    final = name_table.read(data, spaces, live_objects=live_objects)
    done: list[Callable[[], None]] = []

    def undo() -> None:
        for one in reversed(done):
            one()

    try:
        for change in plan.changes:
            done.append(change.put(change.find(final)))
        for _, triple in plan.pairs.functions:
            clear = vars(triple.live).get("_clear_cache")  # of a singledispatch
            if clear is not None:
                clear()
    except BaseException:
        undo()
        raise
    for number, class_id in plan.new.ids.items():
        if number in live_objects:
            definitions.track(live_objects[number], class_id)
    return Merged(final.sources, undo)


# --- parts ---------------------------------------------------------------------------------------


def _keys(*spaces: Any) -> list[str]:
    return list(dict.fromkeys(key for space in spaces for key in space))


def _items(triple: Triple, key: str) -> Triple:
    return Triple(*(vars(one).get(key, MISSING) for one in triple))


def _items_of(triple: Triple, key: str) -> Triple:
    return Triple(*(one.get(key, MISSING) for one in triple))


def _argument(function: FunctionType, number: int) -> str:
    code = function.__code__
    names = code.co_varnames[: code.co_argcount]
    return names[len(names) - len(function.__defaults__ or ()) + number]
