"""Functions and classes rebuilt from their pickled definitions.

A class is known by an id. The process that defined a class, and each process that rebuilt it from a
pickle, have one class per id. An instance that arrives is therefore an instance of that very class.
An existing class keeps the values of its attributes.

A `DefinitionLoad` (`wire.definition_load`) changes where the definitions of one stream go.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cloudpickle import cloudpickle as cloudpickle_tracker

from lifecycle_magic.wire.definition_load import current, space_of

if TYPE_CHECKING:
    from collections.abc import Iterator

identify: Callable[[type], str | None] | None = None
"""Hook that returns an id for a class that is pickled for the first time, if equal definitions can
share one. The kernel sets it.
"""

resolve: Callable[[str], type | None] | None = None
"""Hook that returns the class of this process that an id stands for. The kernel sets it."""


_unfilled: set[int] = set()  # ids of classes that were made and wait for their attributes
_STDLIB = frozenset(sys.stdlib_module_names) - {"__main__"}


# --- functions -----------------------------------------------------------------------------------


def make_cell() -> types.CellType:
    """Return an empty closure cell. The function that comes with it fills the cell."""
    load = current.load
    found: types.CellType = types.CellType() if load is None else load.enter(types.CellType)
    return found


def fill_cell(cell: types.CellType, content: Any) -> None:
    """Store content in a cell, unless the cell is a live object."""
    load = current.load
    if load is not None and load.is_kept(cell):
        load.states[id(cell)] = content
    else:
        cell.cell_contents = content


def fill_lone_cell(cell: types.CellType, state: tuple[Any]) -> None:
    """Fill a cell that was pickled without a function."""
    fill_cell(cell, state[0])


def make_function(
    code: types.CodeType, where: str | dict[str, Any], cells: tuple[types.CellType, ...] | None
) -> types.FunctionType:
    """Return a function without its attributes.

    ``where`` is its namespace, or the namespace's name.
    """
    load = current.load

    def make() -> types.FunctionType:
        space: dict[str, Any] | None = None
        if isinstance(where, dict):
            space = where
        elif load is not None:
            space = space_of(load.spaces, where)
        else:
            space = vars(sys.modules[where])
        space.setdefault("__builtins__", __builtins__)
        return types.FunctionType(code, space, None, None, cells)

    return entered(make)


def make_function_from_source(
    code: types.CodeType,
    names: tuple[str, ...],
    where: str | dict[str, Any],
    cells: tuple[types.CellType, ...] | None,
) -> types.FunctionType:
    """Return a function whose code was compiled here. ``names`` are those of its closure cells.

    Raises TypeError if the code needs a variable of the enclosing function that was not sent.
    """
    if code.co_freevars != names:
        found = dict(zip(names, cells or (), strict=True))
        if missing := [name for name in code.co_freevars if name not in found]:
            raise TypeError(
                f"{code.co_name} can't travel to this version of Python: its code here needs "
                f"{', '.join(missing)} of the function around it"
            )
        cells = tuple(found[name] for name in code.co_freevars) or None
    return make_function(code, where, cells)


def entered(make: Callable[[], types.FunctionType]) -> types.FunctionType:
    """Return a function that the stream creates: made by ``make``, or the live one in its place."""
    load = current.load
    if load is None:
        return make()
    found: types.FunctionType = load.enter(make)
    return found


def fill_function(function: types.FunctionType, state: tuple[Any, ...]) -> None:
    """Set the attributes of a function and fill its closure cells."""
    attributes, values, cells, names, _ = state  # the last holds modules, now imported
    load = current.load
    for cell, content in cells:
        fill_cell(cell, content)
    if load is not None and load.is_kept(function):
        load.states[id(function)] = attributes, values
        return
    for name, value in attributes.items():
        setattr(function, name, value)
    function.__dict__.update(values)
    function.__globals__.update(names)


# --- classes -------------------------------------------------------------------------------------


def make_class(
    meta: type,
    name: str,
    bases: tuple[type, ...],
    body: dict[str, Any],
    plain: bool,
    class_id: str,
) -> type:
    """Return the class with this id, or a new class without its attributes.

    ``plain`` says that ``type.__new__`` creates all that a class of this metaclass needs. The
    metaclass of another library may keep track of its classes, and is called.
    """
    return _find_or_make(class_id, lambda: _new_class(meta, name, bases, body, plain))


def make_enum(
    bases: tuple[type, ...],
    name: str,
    body: dict[str, Any],
    members: dict[str, Any],
    options: dict[str, str],
    class_id: str,
) -> type:
    """Return the enum with this id, or a new enum with its members and without its methods."""

    def make() -> type:
        import enum

        meta = type(bases[-1])
        boundaries: Any = getattr(enum, "FlagBoundary", None)  # not in Python 3.10
        given = {"boundary": boundaries[options["boundary"]]} if boundaries and options else {}
        space = meta.__prepare__(name, bases)
        for attribute, value in {**body, **members}.items():
            space[attribute] = value
        with _without_hooks(bases, _is_user_class):
            found: type = meta.__new__(meta, name, bases, space, **given)  # type: ignore[call-overload]
        return found

    return _find_or_make(class_id, make)


def _find_or_make(class_id: str, make: Callable[[], type]) -> type:
    load = current.load
    known = _find(class_id) if load is None else load.find_class(class_id)
    if known is not None:
        return known

    def made() -> type:
        cls = make()
        _unfilled.add(id(cls))
        return cls

    if load is None:
        found = made()
        track(found, class_id)
        return found
    number = len(load.made)
    entered: type = load.enter(made)
    load.ids[number] = class_id
    load.add_class(class_id, entered)
    if not load.scratch:
        track(entered, class_id)
    return entered


def _find(class_id: str) -> type | None:
    found: type | None = resolve(class_id) if resolve is not None else None
    if found is None:  # not `or`: a metaclass may have a length, and its class may be false
        found = cloudpickle_tracker._DYNAMIC_CLASS_TRACKER_BY_ID.get(class_id)
    return found


def track(cls: type, class_id: str) -> None:
    """Register ``cls`` in this process as the class that ``class_id`` stands for."""
    with cloudpickle_tracker._DYNAMIC_CLASS_TRACKER_LOCK:
        cloudpickle_tracker._DYNAMIC_CLASS_TRACKER_BY_ID[class_id] = cls
        cloudpickle_tracker._DYNAMIC_CLASS_TRACKER_BY_CLASS[cls] = class_id


def id_of(cls: type) -> str:
    """Return the id of a class, and create one if it has none."""
    known: str | None = cloudpickle_tracker._DYNAMIC_CLASS_TRACKER_BY_CLASS.get(cls)
    if known is None:
        known = identify(cls) if identify is not None else None
        if known is not None:
            track(cls, known)
        else:
            known = cloudpickle_tracker._get_or_create_tracker_id(cls)
    return known


def make_parametrized(model: Any, arguments: tuple[Any, ...]) -> Any:
    """Return a generic pydantic model with arguments. There is one of each in a process."""
    return model[arguments]


def set_first(cls: type, values: dict[str, Any]) -> tuple[str, ...]:
    """Set attributes of a new class that reading the others may need, and return their names."""
    if id(cls) not in _unfilled:
        return ()
    for name, value in values.items():
        type.__setattr__(cls, name, value)
    return tuple(values)


def fill_class(
    cls: type, state: tuple[tuple[str, ...], dict[str, Any], list[type], dict[str, Any]]
) -> None:
    """Set the attributes of a new class. A class that existed before stays as it is."""
    first, attributes, registered, members = state
    load = current.load
    if load is not None and load.is_kept(cls):
        load.states[id(cls)] = attributes
    if id(cls) not in _unfilled:
        return
    for name in first:  # to be set in the order of the class statement
        type.__delattr__(cls, name)
    for name, value in attributes.items():
        type.__setattr__(cls, name, value)
    if "__firstlineno__" in attributes:  # Python 3.13 drops it when __module__ is set
        type.__setattr__(cls, "__firstlineno__", attributes["__firstlineno__"])
    for name, own in members.items():  # of an enum
        cls.__members__[name].__dict__.update(own)  # type: ignore[attr-defined]
    for subclass in registered:
        cls.register(subclass)  # type: ignore[attr-defined]
    _unfilled.discard(id(cls))


def _new_class(
    meta: type, name: str, bases: tuple[type, ...], body: dict[str, Any], plain: bool
) -> type:
    """Create a class without running the user's hooks, whose effects travel as attributes."""
    try:
        with _without_hooks(bases, _is_user_class):
            return _bare_class(meta, name, bases, body, plain)
    except TypeError:  # a hook of a library that takes arguments
        with _without_hooks(bases, lambda _: True):
            return _bare_class(meta, name, bases, body, plain)


def _bare_class(
    meta: type, name: str, bases: tuple[type, ...], body: dict[str, Any], plain: bool
) -> type:
    if not plain:
        found: type = types.new_class(name, bases, {"metaclass": meta}, lambda ns: ns.update(body))
        return found
    cls: type = type.__new__(meta, name, bases, dict(body))
    if any(one.__name__ == "ABCMeta" and one.__module__ == "abc" for one in meta.__mro__):
        import _abc  # type: ignore[import-not-found]

        _abc._abc_init(cls)
    return cls


@contextmanager
def _without_hooks(bases: tuple[type, ...], which: Callable[[type], bool]) -> Iterator[None]:
    """Disable ``__init_subclass__`` of these classes: it ran already where the class was
    defined.
    """
    line = dict.fromkeys(one for base in bases for one in base.__mro__)
    saved = [
        (owner, vars(owner)["__init_subclass__"])
        for owner in line
        if "__init_subclass__" in vars(owner)
        and isinstance(vars(owner)["__init_subclass__"], classmethod)
        and owner.__module__.partition(".")[0] not in _STDLIB
        and which(owner)
    ]
    for owner, _ in saved:
        type.__setattr__(owner, "__init_subclass__", classmethod(_no_hook))
    try:
        yield
    finally:
        for owner, hook in saved:
            type.__setattr__(owner, "__init_subclass__", hook)


def _is_user_class(cls: type) -> bool:
    """Return whether a class belongs to the notebook or script and not to a library."""
    if cls.__module__ == "__main__":
        return True
    found: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is not cls


def _no_hook(cls: type, /, **_: Any) -> None:
    """Do nothing."""
