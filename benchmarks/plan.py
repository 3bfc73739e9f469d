"""The plan of a run: the contenders, and how thoroughly to measure. Each ``measure`` gets it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """The names of available ``engines`` and of ``peers``. ``quick`` runs are short and inexact."""

    engines: tuple[str, ...]
    peers: tuple[str, ...] = ()
    quick: bool = False

    def rounds(self, count: int) -> int:
        """Return ``count``, or a small part of it for a quick run."""
        return max(2, count // 5) if self.quick else count
