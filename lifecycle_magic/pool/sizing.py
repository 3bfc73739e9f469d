"""The number of containers that a pool should have, as a pure function."""

from __future__ import annotations

from dataclasses import dataclass

from lifecycle_magic.spec.class_spec import ClassSpec


@dataclass(frozen=True)
class Limits:
    """The scaling limits that a class's options set.

    ``slots`` is how many inputs a container takes at once, ``target`` how many it should have when
    there are several containers. With ``single_use`` a container runs one input. Times are in
    seconds; None means no limit.
    """

    least: int = 0
    most: int = 1
    buffer: int = 0
    slots: int = 1
    target: int | None = None
    scaledown_window: float | None = None
    single_use: bool = False

    @property
    def capacity(self) -> int:
        """Return how many inputs can run at once in all the containers that are allowed."""
        return self.most * self.slots

    @classmethod
    def of(cls, spec: ClassSpec) -> Limits:
        """Return the limits that the options of ``spec`` and of its methods set."""
        options = spec.options
        targets = [m.concurrent.target_inputs for m in spec.methods.values() if m.concurrent]
        return cls(
            least=options.min_containers,
            # Each container holds all that enter loads, so only the user may ask for more than one.
            most=options.max_containers
            or max(1, options.min_containers + options.buffer_containers),
            buffer=options.buffer_containers,
            slots=spec.max_inputs,
            target=min((target for target in targets if target), default=None),
            scaledown_window=options.scaledown_window,
            single_use=options.single_use_containers,
        )


def wanted(limits: Limits, inputs: int) -> int:
    """Return how many containers ``inputs`` need that run or wait, with spares and within the
    limits.

    Spares (``buffer_containers``) are kept next to busy containers only: an idle pool has its
    ``min_containers`` and no more.

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
