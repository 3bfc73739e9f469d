"""The notebook's own subclasses of dictionaries, lists, sets and deques.

Pickle makes some of them by calling the class with arguments of the base, and fills them by the
class's own methods before the attributes are there. A subclass with a constructor or a
``__setitem__`` of its own would fail, or do its work twice. So the base makes and fills the object,
and no method of the user runs, as for any other object that travels.
"""

from __future__ import annotations

import collections
from typing import Any

__all__ = ["reduce"]

_BASES = (
    *(collections.OrderedDict, collections.Counter, collections.defaultdict, collections.deque),
    *(dict, list, set, frozenset),
)


def reduce(value: Any) -> tuple[Any, ...] | None:
    """Return the reduce value of an instance of a subclass; None if the class has its own way."""
    kind = type(value)
    base = next((one for one in kind.__mro__ if one in _BASES), None)
    if base is None or kind is base or not _is_plain(kind, base):
        return None
    arguments: tuple[Any, ...] = ()
    content: Any = list(base.__iter__(value))
    if base is frozenset:
        arguments, content = (content,), ()
    elif base is collections.defaultdict:
        arguments = (value.default_factory,)
    elif base is collections.deque:
        arguments = ((), value.maxlen)
    if issubclass(base, dict):
        content = list(dict.items(value))
    state = content, _own_state(value)
    return make, (base, kind, *arguments), state, None, None, fill


def _is_plain(kind: type, base: type) -> bool:
    """Return whether the class pickles as its base does."""
    own = [one for one in kind.__mro__ if {"__reduce__", "__reduce_ex__"} & vars(one).keys()]
    states = {"__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__"}
    named = any(states & vars(one).keys() for one in kind.__mro__[: kind.__mro__.index(base)])
    return own[0] in (base, object) and not named


def _own_state(value: Any) -> Any:
    state = object.__reduce_ex__(value, 2)[2] if _has_slots(type(value)) else None
    return state if state is not None else dict(getattr(value, "__dict__", {}))


def _has_slots(kind: type) -> bool:
    return any(vars(one).get("__slots__") for one in kind.__mro__)


def make(base: Any, kind: type, *arguments: Any) -> Any:
    """Return an instance of ``kind`` as its ``base`` makes it."""
    made = base.__new__(kind, *arguments)
    base.__init__(made, *(() if base is frozenset else arguments))
    return made


def fill(made: Any, state: tuple[Any, Any]) -> None:
    """Add the items and the attributes, past methods of the user."""
    content, own = state
    attributes, slots = own if isinstance(own, tuple) else (own, {})
    if attributes:
        vars(made).update(attributes)
    for name, value in (slots or {}).items():
        object.__setattr__(made, name, value)
    if isinstance(made, dict):
        ordered = isinstance(made, collections.OrderedDict)
        base: Any = collections.OrderedDict if ordered else dict
        for key, value in content:
            base.__setitem__(made, key, value)
    elif isinstance(made, collections.deque):
        collections.deque.extend(made, content)
    elif isinstance(made, list):
        list.extend(made, content)
    elif isinstance(made, set):
        set.update(made, content)
