"""Checks of numbers: each returns a function that takes a name and a value and returns the number.

They raise `InvalidError` with the name, the value and what it has to be.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, cast

from lifecycle_magic.exception import InvalidError


def refusal(name: str, value: object, problem: str) -> InvalidError:
    """Return the error that says what is wrong with a value."""
    return InvalidError(f"{name}={value!r} {problem}")


def _is_number(value: object) -> bool:
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return real and math.isfinite(cast(float, value))


def whole(least: int, unit: str = "") -> Callable[[str, Any], int]:
    """Return a check for whole numbers from ``least`` up."""

    def check(name: str, value: Any) -> int:
        if not _is_number(value) or value != int(value) or value < least:
            of = f" of {unit}" if unit else ""
            raise refusal(name, value, f"must be a whole number{of}, {least} or more")
        return int(value)

    return check


def number(least: float, unit: str = "") -> Callable[[str, Any], float]:
    """Return a check for numbers from ``least`` up."""

    def check(name: str, value: Any) -> float:
        if not _is_number(value) or value < least:
            of = f" of {unit}" if unit else ""
            raise refusal(name, value, f"must be a number{of}, {least:g} or more")
        return float(value)

    return check


def above_zero(unit: str) -> Callable[[str, Any], float]:
    """Return a check for numbers above 0."""

    def check(name: str, value: Any) -> float:
        if not _is_number(value) or value <= 0:
            raise refusal(name, value, f"must be a number of {unit} above 0")
        return float(value)

    return check


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def duration(most: float) -> Callable[[str, Any], float]:
    """Return a check for a time of up to ``most`` seconds: a number of seconds, or a string with a
    unit such as "90s", "15m" or "2h".
    """

    def check(name: str, value: Any) -> float:
        seconds = value
        if isinstance(value, str):
            found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", value, re.ASCII)
            seconds = float(found[1]) * _UNITS[found[2] or "s"] if found else value
        if not _is_number(seconds) or not 0 < seconds <= most:
            raise refusal(
                name,
                value,
                f"must be a number of seconds above 0, or a string such as '15m' or '2h', and at "
                f"most a day ({most:g} s)",
            )
        return float(seconds)

    return check


def limit(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """Accept Modal's ``(request, limit)`` pair as well: without a scheduler the limit counts."""

    def checked(name: str, value: Any) -> Any:
        if not isinstance(value, tuple):
            return check(name, value)
        if len(value) != 2:
            raise refusal(name, value, "must be one number, or a (request, limit) pair")
        request, limit = (check(name, part) for part in value)
        if request > limit:
            raise refusal(name, value, "asks for more than its limit. Fix: write (request, limit)")
        return limit

    return checked
