"""The input that the running code belongs to: `current_input_id`, `current_function_call_id`.

This module travels into containers. There the worker sets how the running call is found.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["call_id", "current_function_call_id", "current_input_id", "set_source"]

_session = ""  # the id of the kernel's session
_find: Callable[[], int | None] | None = None


def set_source(session: str, find: Callable[[], int | None]) -> None:
    """Set the session's id, and the function that returns the number of the running call."""
    global _session, _find
    _session, _find = session, find


def call_id(session: str, number: int) -> str:
    """Return the id of a call of a session, as `current_function_call_id` returns it."""
    return f"fc-{session}-{number}"


def current_input_id() -> str | None:
    """Return a string that identifies the input that runs here, None outside of a method.

    It stays the same when a failed input is tried again. A batch is one input.

    >>> current_input_id() is None
    True
    """
    number = _find() if _find is not None else None
    return f"in-{_session}-{number}" if number else None


def current_function_call_id() -> str | None:
    """Return a string that identifies the call that runs here, None outside of a method.

    Each input of a map is a call of its own.

    >>> current_function_call_id() is None
    True
    """
    number = _find() if _find is not None else None
    return call_id(_session, number) if number else None
