"""Filters, formatters and handlers made in the notebook, as far as they can travel.

What a library defines and set up for its own logger is left out: the container's own import of
that library does the same.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from lifecycle_magic.decorators.classes import is_class, unbound
from lifecycle_magic.wire.reading_values import despite_filters

__all__ = [
    "HandlerParts",
    "LogPart",
    "Travels",
    "handler_parts",
    "is_of_notebook",
    "is_picklable",
    "make_handler",
    "make_part",
    "part_of",
    "state_of",
    "stream_name",
]

_OF_HANDLERS = frozenset({"_name", "filters", "formatter", "level", "lock", "stream", "_closed"})


Travels = Callable[[Any], bool]
"""Return whether a value of the notebook can travel, with the names that its code reads."""


class LogPart(NamedTuple):
    """A filter or formatter. One of a library is pickled apart, for the image may lack the library.

    ``digest`` is of its content. Two parts are compared by it.
    """

    value: Any
    pickled: bytes
    digest: bytes


class HandlerParts(NamedTuple):
    """The parts of a handler: its class, its attributes and the name of its stream."""

    kind: Any
    state: dict[str, Any]
    stream: str | None
    level: int
    formatter: LogPart | None
    filters: list[LogPart]
    digest: bytes


def is_of_notebook(value: Any) -> bool:
    """Return whether the notebook defines a value: a function, a class, or an object's class."""
    from lifecycle_magic.wire.by_value import is_named  # needs cloudpickle

    value = unbound(value)
    return not is_named(value if is_class(value) or hasattr(value, "__code__") else type(value))


def is_picklable(value: Any) -> bool:
    """Return whether a value can be pickled by itself."""
    return _pickled(value) is not None


def part_of(value: Any, travels: Travels = is_picklable) -> LogPart | None:
    """Return a filter or formatter as a part; None if it can't travel."""
    if is_of_notebook(value):
        trial = _pickled(value)
        return LogPart(value, b"", _digest(trial)) if trial and travels(value) else None
    try:
        pickled = despite_filters(lambda: pickle.dumps(value, 5))
    except Exception:  # any error of a library's type
        return None
    return LogPart(None, pickled, _digest(pickled))


def make_part(part: LogPart) -> Any:
    """Return the filter or formatter of a part. Raises what unpickling raises."""
    return pickle.loads(part.pickled) if part.pickled else part.value


def handler_parts(handler: Any, travels: Travels = is_picklable) -> HandlerParts | None:
    """Return the parts of a handler; None if it can't travel.

    Handlers of exactly the type `logging.StreamHandler` and handlers that the notebook defines
    travel, if they write to stdout, to stderr or to no stream.
    """
    kind = type(handler)
    if kind is not logging.StreamHandler and not is_of_notebook(handler):
        return None
    stream = getattr(handler, "stream", None)
    found = [handler.formatter] if handler.formatter is not None else []
    parts = [part_of(one, travels) for one in (*found, *handler.filters)]
    state = state_of(handler)
    trial = _pickled((kind, state))
    if None in parts or trial is None or (stream is not None and stream_name(stream) is None):
        return None
    if kind is not logging.StreamHandler and not travels((kind, state)):
        return None
    known = [one for one in parts if one is not None]
    named = repr((stream_name(stream), handler.level, len(found))).encode()
    return HandlerParts(
        kind,
        state,
        stream_name(stream),
        handler.level,
        known[0] if found else None,
        known[len(found) :],
        _digest(trial, named, *(one.digest for one in known)),
    )


def state_of(handler: Any) -> dict[str, Any]:
    """Return the attributes of a handler that `logging` itself does not set."""
    return {name: one for name, one in vars(handler).items() if name not in _OF_HANDLERS}


def make_handler(parts: HandlerParts) -> logging.Handler:
    """Return a handler made from its parts. Raises what unpickling raises."""
    made: logging.Handler = parts.kind.__new__(parts.kind)
    logging.Handler.__init__(made, parts.level)
    vars(made).update(parts.state)
    if parts.stream is not None:
        vars(made)["stream"] = getattr(sys, parts.stream)
    if parts.formatter is not None:
        made.formatter = make_part(parts.formatter)
    made.filters[:] = map(make_part, parts.filters)
    return made


def stream_name(stream: object) -> str | None:
    """Return ``stdout`` or ``stderr`` for these streams, also for those that were replaced."""
    for name in ("stdout", "stderr"):
        if stream is not None and stream in (getattr(sys, name), getattr(sys, f"__{name}__")):
            return name
    return None


def _pickled(value: Any) -> bytes | None:
    from lifecycle_magic.wire.pickling import dumps_by_value

    try:
        return dumps_by_value(value)
    except Exception:  # any error of the user's type
        return None


def _digest(*pieces: bytes) -> bytes:
    made = hashlib.sha256()
    for piece in pieces:
        made.update(len(piece).to_bytes(8, "little") + piece)
    return made.digest()
