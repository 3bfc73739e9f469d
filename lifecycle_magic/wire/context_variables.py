"""Context variables that travel: one variable in the notebook is one variable in the container.

Code identifies a `contextvars.ContextVar` by identity, so each variable gets a key when it first
travels, and arrives with its default and its value. A variable of an installed module arrives as
that module's own variable.
"""

from __future__ import annotations

import contextvars
import operator
import sys
import uuid
from contextvars import ContextVar
from typing import Any, NamedTuple

__all__ = ["ComparedVariable", "content_of", "fetch", "make", "mark_of", "reduce"]

Given = tuple[Any, ...]  # a value, or nothing


class _Version(NamedTuple):
    """The value that a variable travelled with last, and how often that value changed."""

    number: int
    value: Given


_by_key: dict[str, ContextVar[Any]] = {}
_keys: dict[int, str] = {}  # of the variables in _by_key, by their id
_sent: dict[str, _Version] = {}
_received: dict[str, _Version] = {}


class ComparedVariable(NamedTuple):
    """Placeholder for a variable in definitions that are read only to be compared."""

    key: str
    version: int


def content_of(variable: ContextVar[Any]) -> tuple[str, Given, Given]:
    """Return the name of a variable, its default, and its value here."""
    return variable.name, contextvars.Context().run(_read, variable), _read(variable)


def reduce(variable: ContextVar[Any]) -> tuple[Any, ...]:
    """Return the reduce value of a variable, as ``__reduce__`` would."""
    name, default, value = content_of(variable)
    key = _keys.get(id(variable))
    if key is None:
        place = _place_of(variable)
        if place is not None:
            return fetch, (*place, value)
        key = _register(uuid.uuid4().hex, variable)
    sent = _sent.get(key)
    if sent is None or not _is_same(sent.value, value):
        sent = _sent[key] = _Version(0 if sent is None else sent.number + 1, value)
    return make, (key, name, default, value, sent.number)


def make(
    key: str, name: str, default: Given, value: Given, version: int
) -> ContextVar[Any] | ComparedVariable:
    """Return the variable with this key, and create it if it does not exist here yet.

    Where definitions arrive, it gets the value that it has in the notebook by now.
    """
    # Imported only where definitions arrive.
    from lifecycle_magic.wire import definition_load

    if definition_load.is_comparing():
        return ComparedVariable(key, version)
    made = _by_key.get(key)
    if made is None:
        made = ContextVar(name, default=default[0]) if default else ContextVar(name)
        _register(key, made)
    elif not definition_load.is_declaring() or (
        key in _received and _received[key].number == version
    ):
        return made
    _received[key] = _Version(version, value)
    if value and not _is_same(value, _read(made)):
        made.set(value[0])
    return made


def fetch(module: str, name: str, value: Given) -> ContextVar[Any]:
    """Return the variable of an installed module.

    Where definitions arrive, it gets the value that it has in the notebook, unless it has a value
    already.
    """
    from lifecycle_magic.wire import definition_load

    __import__(module)
    found: ContextVar[Any] = getattr(sys.modules[module], name)
    _, default, own = content_of(found)
    if value and definition_load.is_declaring() and _is_same(own, default):
        found.set(value[0])
    return found


def mark_of(variable: ContextVar[Any] | ComparedVariable) -> tuple[str, object]:
    """Return a value that is equal for the same variable while it is as it was declared."""
    if isinstance(variable, ComparedVariable):
        return variable.key, variable.version
    key = _keys.get(id(variable))
    if key is None:
        return variable.name, id(variable)
    received = _received.get(key)
    as_declared = received is not None and _is_same(received.value, _read(variable))
    return key, received.number if received is not None and as_declared else "changed"


def _register(key: str, variable: ContextVar[Any]) -> str:
    _by_key[key] = variable
    _keys[id(variable)] = key
    return key


def _read(variable: ContextVar[Any]) -> Given:
    try:
        return (variable.get(),)
    except LookupError:
        return ()


def _is_same(one: Given, other: Given) -> bool:
    return len(one) == len(other) and all(map(operator.is_, one, other))


def _place_of(variable: ContextVar[Any]) -> tuple[str, str] | None:
    """Return the installed module that has the variable, and the variable's name in it."""
    from cloudpickle import cloudpickle

    by_value = cloudpickle.list_registry_pickle_by_value()
    for home, module in list(sys.modules.items()):
        if home == "__main__" or home in by_value:
            continue
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is variable:
                return home, name
    return None
