"""Ids of the notebook's classes, equal for equal definitions.

Running a cell again creates its classes again. As long as a definition stays the same, an instance
that travels to a container or back is an instance of the current class of that name on both sides.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from cloudpickle import cloudpickle as tracker

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.guest.hot_swap.same_content import ContentReader
from lifecycle_magic.handles.function import HANDLES
from lifecycle_magic.wire import definitions

__all__ = ["give_ids", "install"]


def install() -> None:
    """Use these ids for the classes that this process pickles and unpickles."""
    definitions.identify, definitions.resolve = _identify, _resolve


def give_ids(names: Iterable[str]) -> None:
    """Give ids to the classes of these names as they are now.

    Instances that are made later may change a class: a table of all of them, or a count.
    """
    for name in names:
        cls = _named(name)
        if cls is not None and cls.__module__ == "__main__":
            definitions.id_of(cls)


def _identify(cls: type) -> str | None:
    """Return the id of a class that `__main__` holds under its own name; None for any other."""
    if cls.__module__ != "__main__" or _named(cls.__qualname__) is not cls:
        return None
    content = ContentReader({}).of(cls)
    return None if content is None else f"{cls.__qualname__}:{content.hex()}"


def _resolve(class_id: str) -> type | None:
    """Return the class that currently has this id; None if there is none."""
    name, _, content = class_id.rpartition(":")
    cls = _named(name) if content and name else None
    if cls is None:
        return None
    known = tracker._DYNAMIC_CLASS_TRACKER_BY_CLASS.get(cls)
    if known is None and (known := _identify(cls)) is not None:
        definitions.track(cls, known)
    return cls if known == class_id else None


def _named(name: str) -> type | None:
    found: Any = sys.modules["__main__"]
    for one in name.split("."):
        found = vars(found).get(one) if hasattr(found, "__dict__") else None
        if type(found) in HANDLES:
            found = found.__wrapped__
    return found if is_class(found) else None
