"""How many containers a pool should have: one pure function, so that it can be read and tested."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a class's options say about scaling and about its inputs.

    ``slots`` is how many inputs a container takes at once, ``target`` how many it is meant to have
    when there are several containers. Times are seconds, None is without bound.
    """

    least: int = 0
    most: int = 1
    buffer: int = 0
    slots: int = 1
    target: int | None = None
    scaledown_window: float | None = None


def wanted(limits: Limits, inputs: int) -> int:
    """Containers for ``inputs`` that run or wait: enough for them, the spares, inside the bounds.

    Spares (``buffer_containers``) are kept beside busy containers only: a pool with nothing to do
    has its ``min_containers`` and no more.

    >>> wanted(Limits(most=4), 3)
    3
    >>> wanted(Limits(most=4, slots=2, buffer=1), 3)
    3
    """
    per_container = min(limits.target or limits.slots, limits.slots)
    needed = -(-inputs // per_container)
    if inputs:
        needed += limits.buffer
    return min(max(needed, limits.least), limits.most)
