"""How many containers a pool should have: pure, so that it can be read and tested."""

from __future__ import annotations

from dataclasses import dataclass

from lifecycle_magic.spec import ClassSpec


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

    @classmethod
    def of(cls, spec: ClassSpec) -> Limits:
        """Those that the options of ``spec`` and its methods ask for."""
        options = spec.options
        targets = [m.concurrent.target_inputs for m in spec.methods.values() if m.concurrent]
        return cls(
            least=options.min_containers,
            # Each container holds all that enter loads: more than one is for the user to ask for.
            most=options.max_containers
            or max(1, options.min_containers + options.buffer_containers),
            buffer=options.buffer_containers,
            slots=spec.max_inputs,
            target=min((target for target in targets if target), default=None),
            scaledown_window=options.scaledown_window,
        )


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
