"""Growing CPU time, converted to cores: what a container used between two measurements."""

from __future__ import annotations


class CpuMeter:
    """The time and the CPU time of each container's last measurement.

    Times are seconds of any one clock, usage is seconds of CPU time.

        >>> meter = CpuMeter()
        >>> meter.begin("a", 100.0)
        >>> meter.cores("a", 102.0, 3.0), meter.cores("a", 104.0, 4.0)
        (1.5, 0.5)
    """

    def __init__(self) -> None:
        self._looks: dict[str, tuple[float, float]] = {}

    def knows(self, container: str) -> bool:
        """Return whether its last measurement, or its start, is known."""
        return container in self._looks

    def begin(self, container: str, at: float) -> None:
        """Record that it started at ``at``, unless it is known already."""
        self._looks.setdefault(container, (at, 0.0))

    def cores(self, container: str, at: float, used: float) -> float:
        """Return the cores it used since the last measurement, or its start, and record this
        one.
        """
        then, before = self._looks.get(container, (at, used))
        self._looks[container] = (at, used)
        # Where a process that ended takes its seconds along, what was used may fall.
        return max(0.0, used - before) / max(at - then, 1e-3)

    def forget(self, container: str) -> None:
        """Remove a container that has exited."""
        self._looks.pop(container, None)
