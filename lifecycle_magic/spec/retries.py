"""The policy for retrying a failed call."""

from __future__ import annotations

from dataclasses import dataclass

from lifecycle_magic.spec.number_checks import number, whole

__all__ = ["Retries"]


@dataclass(frozen=True)
class Retries:
    """A policy for retrying failed calls.

    ``max_retries`` is the number of further attempts. The first one starts ``initial_delay``
    seconds after the failure, each later one after ``backoff_coefficient`` times the delay before
    it, but at most ``max_delay`` seconds. Raises `InvalidError` for impossible values.

    >>> [Retries(max_retries=3).delay(attempt) for attempt in (1, 2, 3)]
    [1.0, 2.0, 4.0]
    """

    max_retries: int
    initial_delay: float = 1.0
    backoff_coefficient: float = 2.0
    max_delay: float = 60.0

    def __post_init__(self) -> None:
        whole(0)("max_retries", self.max_retries)
        for name, least in (("initial_delay", 0.0), ("backoff_coefficient", 1.0)):
            number(least)(name, getattr(self, name))
        number(self.initial_delay)("max_delay", self.max_delay)

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait before a retry; ``attempt`` 1 is the first retry."""
        grown = self.initial_delay * self.backoff_coefficient ** (attempt - 1)
        return float(min(grown, self.max_delay))
