"""Places that a merge writes to, and the readers of their values in the final load of the new code.

A `Put` writes a value and returns a function that undoes it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CellType, FunctionType
from typing import Any

from lifecycle_magic.guest.hot_swap.same_content import MISSING
from lifecycle_magic.wire import definition_load
from lifecycle_magic.wire.name_table import NameTable

Spaces = dict[str, dict[str, Any]]
Undo = Callable[[], None]
Put = Callable[[Any], Undo]
Find = Callable[[NameTable], Any]


def into_name(spaces: Spaces, space: str, name: str) -> Put:
    """Return a writer for a name of the namespace called ``space``."""
    return into_item(definition_load.space_of(spaces, space), name)


def into_item(space: dict[str, Any], name: str) -> Put:
    """Return a writer that sets or deletes an item of a dictionary."""

    def put(value: Any) -> None:
        if value is MISSING:
            space.pop(name, None)
        else:
            space[name] = value

    return _put(lambda: space.get(name, MISSING), put)


def into_attribute(function: FunctionType, name: str) -> Put:
    """Return a writer for an attribute that every function has."""
    return _put(lambda: getattr(function, name), lambda value: setattr(function, name, value))


def into_class(cls: type, name: str) -> Put:
    """Return a writer that sets or deletes an attribute of a class, past its metaclass."""

    def put(value: Any) -> None:
        if value is not MISSING:
            type.__setattr__(cls, name, value)
        elif name in vars(cls):
            type.__delattr__(cls, name)

    return _put(lambda: vars(cls).get(name, MISSING), put)


def into_cell(cell: CellType) -> Put:
    """Return a writer that fills or empties a closure cell."""

    def put(value: Any) -> None:
        if value is MISSING:
            del cell.cell_contents
        else:
            cell.cell_contents = value

    return _put(lambda: content(cell), put)


def into_default(function: FunctionType, number: int) -> Put:
    """Return a writer for one positional default of a function."""

    def put(value: Any) -> None:
        values = list(function.__defaults__ or ())
        values[number] = value
        function.__defaults__ = tuple(values)

    return _put(lambda: (function.__defaults__ or ())[number], put)


def into_keyword(function: FunctionType, name: str) -> Put:
    """Return a writer that sets or deletes one keyword default of a function."""

    def put(value: Any) -> None:
        values = {**(function.__kwdefaults__ or {}), name: value}
        function.__kwdefaults__ = {k: v for k, v in values.items() if v is not MISSING} or None

    return _put(lambda: (function.__kwdefaults__ or {}).get(name, MISSING), put)


def _put(get: Callable[[], Any], put: Callable[[Any], None]) -> Put:
    def write(value: Any) -> Undo:
        before = get()
        put(value)
        return lambda: put(before)

    return write


# --- where the final load has the value ----------------------------------------------------------


def of_name(space: str, name: str) -> Find:
    """Return a reader for the new value of a name."""
    return lambda final: final.names.get((space, name), MISSING)


def of_function(function: FunctionType, name: str) -> Find:
    """Return a reader for the new value of an attribute that every function has."""
    return lambda final: final.states[id(function)][0].get(name)


def of_item(function: FunctionType, name: str) -> Find:
    """Return a reader for the new value in a function's ``__dict__``."""
    return lambda final: final.states[id(function)][1].get(name, MISSING)


def of_default(function: FunctionType, number: int) -> Find:
    """Return a reader for the new value of a positional default."""
    return lambda final: final.states[id(function)][0]["__defaults__"][number]


def of_keyword(function: FunctionType, name: str) -> Find:
    """Return a reader for the new value of a keyword default."""
    return lambda final: (final.states[id(function)][0]["__kwdefaults__"] or {}).get(name, MISSING)


def of_class(cls: type, name: str) -> Find:
    """Return a reader for the new value of a class's attribute."""
    return lambda final: final.states[id(cls)].get(name, MISSING)


def of_cell(cell: CellType) -> Find:
    """Return a reader for the new content of a closure cell."""
    return lambda final: final.states.get(id(cell), MISSING)


def content(cell: CellType) -> Any:
    """Return the content of a closure cell."""
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING
