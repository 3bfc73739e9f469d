"""Checks of numbers: each returns a function that takes a name and a value and returns the number.

They raise `InvalidError` with the name, the value and what it has to be.
"""

from __future__ import annotations

import math
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


def limit(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """Accept Modal's ``(request, limit)`` pair as well: without a scheduler the limit counts."""

    def checked(name: str, value: Any) -> Any:
        if not isinstance(value, tuple):
            return check(name, value)
        if len(value) != 2:
            raise refusal(name, value, "must be one number, or a (request, limit) pair")
        request, limit = (check(name, part) for part in value)
        if request > limit:
            raise refusal(name, value, "asks for more than its own limit: write (request, limit)")
        return limit

    return checked
