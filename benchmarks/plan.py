"""What a run measures, and how thoroughly: what every benchmark's ``measure`` gets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """``engines`` that answer and ``peers`` to measure, by name. ``quick``: a look, no figures."""

    engines: tuple[str, ...]
    peers: tuple[str, ...] = ()
    quick: bool = False

    def rounds(self, count: int) -> int:
        """``count``, or what of it is enough for a look."""
        return max(2, count // 5) if self.quick else count
