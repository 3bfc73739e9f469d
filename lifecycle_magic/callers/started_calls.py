"""The calls that this process's session has started, by the numbers of their inputs.

A method knows the number of its input, in the id that `current_function_call_id` returns. A call is
listed while it runs, and later while a `FunctionCall` has its future.
"""

from __future__ import annotations

import functools
import weakref
from concurrent.futures import Future
from typing import Any

__all__ = ["find", "note"]

_started: dict[int, tuple[weakref.ref[Future[Any]], str]] = {}


def note(number: int, future: Future[Any], where: str) -> None:
    """List a call by the number of its input. ``where`` is the method in words."""
    reference = weakref.ref(future, functools.partial(_started.pop, number))
    _started[number] = reference, where


def find(number: int) -> tuple[Future[Any], str] | None:
    """Return the future of a call and its method in words, None if it is not listed any more."""
    found = _started.get(number)
    future = found[0]() if found is not None else None
    return None if found is None or future is None else (future, found[1])
