"""CPU time that grows, as cores: what a container used between two looks."""

from __future__ import annotations


class CpuMeter:
    """Remembers of each container when it was looked at last, and what it had used by then.

    Times are seconds of any one clock, what was used is seconds of CPU time.

        >>> meter = CpuMeter()
        >>> meter.begin("a", 100.0)
        >>> meter.cores("a", 102.0, 3.0), meter.cores("a", 104.0, 4.0)
        (1.5, 0.5)
    """

    def __init__(self) -> None:
        self._looks: dict[str, tuple[float, float]] = {}

    def knows(self, container: str) -> bool:
        """Whether its last look, or its start, is known."""
        return container in self._looks

    def begin(self, container: str, at: float) -> None:
        """It started at ``at``; nothing if it is known already."""
        self._looks.setdefault(container, (at, 0.0))

    def cores(self, container: str, at: float, used: float) -> float:
        """Look at it: how many cores it used since the last look, or since it began."""
        then, before = self._looks.get(container, (at, used))
        self._looks[container] = (at, used)
        # Where a process that ended takes its seconds along, what was used may fall.
        return max(0.0, used - before) / max(at - then, 1e-3)

    def forget(self, container: str) -> None:
        """It is gone."""
        self._looks.pop(container, None)
