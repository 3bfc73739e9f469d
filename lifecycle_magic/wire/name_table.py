"""A class and the names that it refers to, as one stream of pickles.

The stream holds each name that the class's code reads, with its namespace and value, then the class
and the content of its source files. Functions refer to each other by name, as in Python: all
functions of the notebook share one namespace, the `__main__` of the container.
"""

from __future__ import annotations

import contextlib
import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lifecycle_magic.wire import definition_load
from lifecycle_magic.wire.rerun_names import UNBOUND, UseOther

__all__ = ["NameTable", "read"]


@dataclass
class NameTable:
    """The declarations of one stream.

    The keys of ``names`` are a namespace's name and a name in it. ``made`` lists the functions,
    classes and cells in the order of the stream. ``ids`` are the ids of classes by their place in
    ``made``. ``states`` is what the stream says of live objects that replaced some of them, by
    ``id``.
    """

    cls: Any
    spaces: dict[str, dict[str, Any]]
    names: dict[tuple[str, str], Any]
    sources: dict[str, str]
    made: list[Any]
    ids: dict[int, str]
    states: dict[int, Any]


def read(
    data: bytes,
    spaces: dict[str, dict[str, Any]],
    *,
    live_objects: Mapping[int, Any] | None = None,
    scratch: bool = False,
) -> NameTable:
    """Read a stream and return what it declares.

    ``spaces`` are the namespaces of its functions, by name.

    Each name is stored in its namespace as soon as it is read, since later definitions may need it.
    With ``live_objects`` nothing is stored and nothing that lives changes. Raises what unpickling
    raises.
    """
    try:
        return _read(data, spaces, live_objects, scratch)
    except UseOther as other:
        fitting = other.data
    return _read(fitting, spaces, live_objects, scratch)


def _read(
    data: bytes,
    spaces: dict[str, dict[str, Any]],
    live_objects: Mapping[int, Any] | None,
    scratch: bool,
) -> NameTable:
    load = definition_load.DefinitionLoad(spaces, live_objects, scratch)
    names: dict[tuple[str, str], Any] = {}
    with definition_load.reading(load):
        stream = io.BytesIO(data)
        unpickler = pickle.Unpickler(stream)
        while (found := _next(unpickler, stream)) is not None:
            label, name, value = found
            space = definition_load.space_of(spaces, label)
            if definition_load.is_module(label, space) or value is UNBOUND:
                continue
            names[label, name] = value
            if live_objects is None:
                space[name] = value
        cls, sources = unpickler.load()
    return NameTable(cls, spaces, names, sources, load.made, load.ids, load.states)


def _next(unpickler: pickle.Unpickler, stream: io.BytesIO) -> Any:
    """Return the next name. What its value's own code raises has a note that names it."""
    start = stream.tell()
    try:
        return unpickler.load()
    except UseOther:
        raise
    except Exception as error:
        _explain(error, stream.getvalue()[start:], unpickler)
        raise


def _explain(error: Exception, data: bytes, unpickler: pickle.Unpickler) -> None:
    """Add a note that names the value to what rebuilding it has raised."""
    from lifecycle_magic.wire import unpickling_errors  # rarely needed

    with contextlib.suppress(Exception):
        _, name = unpickling_errors.first_strings(data, unpickler.memo.copy(), 2)
        unpickling_errors.explain(error, f"{name}, or a part of it,", unpickling_errors.IN_ENTER)
