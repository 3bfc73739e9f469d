"""Checks of values from untrusted JSON: each function returns a value of one type and of a bounded
size.

Each function raises `ValueError` that names the field.
"""

from __future__ import annotations

from typing import Any

_MAX_STRING_CHARACTERS = 1 << 20
_MAX_NUMBER = 1e11
"""As seconds since the epoch this is the year 5138; later times can't be shown as a date."""


def string(name: str, value: Any) -> str:
    """Return a string that can be written as UTF-8, cut to a megabyte."""
    if not isinstance(value, str):
        raise _invalid(name, value)
    return value[:_MAX_STRING_CHARACTERS].encode("utf-8", "backslashreplace").decode()


def string_or_none(name: str, value: Any) -> str | None:
    """Return a checked string, or None for None."""
    return None if value is None else string(name, value)


def flag(name: str, value: Any) -> bool:
    """Return a bool."""
    if not isinstance(value, bool):
        raise _invalid(name, value)
    return value


def number(name: str, value: Any) -> float:
    """Return a number of seconds: not negative, and no later than the last date that can be
    shown.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _invalid(name, value)
    if not 0 <= value <= _MAX_NUMBER:  # nor what is no number, or no float can hold
        raise _invalid(name, value)
    return float(value)


def number_or_none(name: str, value: Any) -> float | None:
    """Return a checked number, or None for None."""
    return None if value is None else number(name, value)


def integer(name: str, value: Any) -> int:
    """Return an integer of a sensible size."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _MAX_NUMBER:
        raise _invalid(name, value)
    return value


def integer_or_none(name: str, value: Any) -> int | None:
    """Return a checked integer, or None for None."""
    return None if value is None else integer(name, value)


def _invalid(name: str, value: Any) -> ValueError:
    return ValueError(f"{name} can't be of type {type(value).__name__} with this value")
