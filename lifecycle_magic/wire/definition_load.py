"""The definitions of one stream while it is read, and where they go: see `wire.name_table`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

STDLIB = "="
"""Prefix for the name of a namespace that is a module of the standard library."""

MODULE = "@"
"""Prefix for the name of a namespace that is another module, if that can be imported here."""


class DefinitionLoad:
    """The definitions of one stream while the stream is read.

    ``spaces`` are the namespaces of the functions, by name. ``made`` lists functions, classes and
    closure cells in the order in which the stream creates them, which is the same each time.
    ``live_objects`` maps places in that list to live objects that are used, unchanged, instead of
    new ones. A ``scratch`` load leaves no trace in this process.
    """

    def __init__(
        self,
        spaces: dict[str, dict[str, Any]],
        live_objects: Mapping[int, Any] | None = None,
        scratch: bool = False,
    ) -> None:
        self.spaces = spaces
        self.made: list[Any] = []
        self.ids: dict[int, str] = {}  # of classes, by their place in `made`
        self.scratch = scratch
        self.is_first = live_objects is None and not scratch
        self.states: dict[int, Any] = {}  # what the stream says of live objects, by their id
        self._live_objects = live_objects or {}
        self._kept: set[int] = set()
        self._classes: dict[str, type] = {}

    def enter(self, make: Callable[[], Any]) -> Any:
        """Return the next object of the stream: the live object in its place, or one made by
        ``make``.
        """
        number = len(self.made)
        if number in self._live_objects:
            found = self._live_objects[number]
            self._kept.add(id(found))
        else:
            self.made.append(None)  # `make` may enter objects of its own
            found = self.made[number] = make()
            return found
        self.made.append(found)
        return found

    def is_kept(self, made: object) -> bool:
        """Return whether ``made`` is a live object that the stream must not change."""
        return id(made) in self._kept

    def find_class(self, class_id: str) -> type | None:
        """Return the class that this stream created for an id, or None."""
        return self._classes.get(class_id)

    def add_class(self, class_id: str, cls: type) -> None:
        """Register the class that this stream created for an id."""
        self._classes[class_id] = cls


def space_of(spaces: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the namespace called ``name``, and create it if it does not exist yet."""
    found = spaces.get(name)
    if found is None:
        if name.startswith(STDLIB):
            import importlib

            found = vars(importlib.import_module(name[len(STDLIB) :]))
        else:
            plain = name.removeprefix(MODULE).partition("#")[0]
            found = _imported(plain) if name.startswith(MODULE) else None
            if found is None:
                found = {"__name__": plain, "__builtins__": __builtins__}
        spaces[name] = found
    return found


def _imported(name: str) -> dict[str, Any] | None:
    """Return the namespace of a module, None if it can't be imported here.

    Functions that a module has made, such as a decorator's wrappers, share its state: what the
    module's other functions see. Without it they get the values that travel with them.
    """
    import importlib

    try:
        return vars(importlib.import_module(name))
    except Exception:  # it may need packages that this image does not have
        return None


def is_module(name: str, space: dict[str, Any]) -> bool:
    """Return whether the namespace called ``name`` is that of an imported module, which has its
    own values.
    """
    if not name.startswith(MODULE):
        return False
    module = sys.modules.get(name[len(MODULE) :])
    return module is not None and vars(module) is space


class _Current(threading.local):
    load: DefinitionLoad | None = None


current = _Current()


@contextmanager
def reading(load: DefinitionLoad) -> Iterator[None]:
    """Use ``load`` for the definitions that this thread unpickles inside the block."""
    outer, current.load = current.load, load
    try:
        yield
    finally:
        current.load = outer


def is_declaring() -> bool:
    """Return whether this thread reads definitions that stay in this process."""
    return current.load is not None and not current.load.scratch


def is_first() -> bool:
    """Return whether this thread reads the definitions with which this process begins."""
    return current.load is not None and current.load.is_first


def is_comparing() -> bool:
    """Return whether this thread reads definitions only to compare them."""
    return current.load is not None and current.load.scratch


def is_kept(made: object) -> bool:
    """Return whether ``made`` is a live object that the stream of this thread must not change."""
    return current.load is not None and current.load.is_kept(made)
