"""Filters of `warnings` that a notebook has set, for the containers of its classes.

They replace those that Python starts with. What code in the container sets stays in front of them.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

__all__ = ["ComparedFilters", "Filter", "remember_initial", "set_up"]

Raw = tuple[Any, ...]
"""A filter as `warnings.filters` has it."""


class Filter(NamedTuple):
    """One filter. The category is pickled apart unless the notebook defines it: the image may lack
    its library.
    """

    action: str
    message: str
    category: Any
    pickled: bytes
    module: str
    lineno: int


class ComparedFilters:
    """Placeholder in definitions: it sets the filters up where they arrive."""

    def __init__(self, filters: Iterable[Raw]) -> None:
        self._filters = [made for one in filters if (made := _filter(one)) is not None]

    def __reduce__(self) -> tuple[Any, ...]:
        return set_up, (self._filters,)


def _filter(raw: Raw) -> Filter | None:
    from lifecycle_magic.wire.by_value import is_named  # needs cloudpickle

    action, message, category, module, lineno = raw
    texts = _text(message), _text(module)
    if not is_named(category):
        return Filter(action, texts[0], category, b"", texts[1], lineno)
    try:
        return Filter(action, texts[0], None, pickle.dumps(category), texts[1], lineno)
    except Exception:  # any error of a library's class
        return None


def _text(pattern: Any) -> str:
    """Return the regular expression of a filter. Python's own filters have the whole string."""
    if pattern is None:
        return ""
    return f"{re.escape(pattern)}$" if isinstance(pattern, str) else str(pattern.pattern)


_initial: list[Raw] = []  # what this process began with
_arrived: list[Raw] = []  # what arrived last, as Python keeps it
_declared: list[list[Filter]] = []  # the same as it was sent; empty before it arrives


def remember_initial() -> None:
    """Remember the filters of this process, before the user's code and libraries add theirs."""
    _initial[:] = warnings.filters


def set_up(filters: list[Filter]) -> None:
    """Set up the filters of the notebook where definitions arrive."""
    # Imported only where definitions arrive: it needs cloudpickle.
    from lifecycle_magic.wire import definition_load

    if not definition_load.is_declaring() or filters in _declared:
        return
    known = [*_initial, *_arrived]
    own = [one for one in warnings.filters if one not in known]
    made = [raw for one in filters if (raw := _made(one)) is not None]
    warnings.resetwarnings()
    if _declared:
        _append(own)
    _append(made)
    _arrived[:] = [one for one in warnings.filters if one not in own]
    if not _declared:  # libraries set these when they were imported with the class
        _append(own)
    _declared[:] = [filters]


def _made(one: Filter) -> Raw | None:
    category = one.category
    if one.pickled:
        try:
            category = pickle.loads(one.pickled)
        except Exception:  # the image lacks its library
            return None
    patterns = (re.compile(one.message), re.compile(one.module))
    return one.action, patterns[0], category, patterns[1], one.lineno


def _append(filters: Iterable[Raw]) -> None:
    for action, message, category, module, lineno in filters:
        warnings.filterwarnings(
            action, _text(message), category, _text(module), lineno, append=True
        )
