"""What a class's calls came to."""

from __future__ import annotations

from collections import deque


class Stats:
    """What the calls of a class came to: counts, and the seconds of the last 512."""

    __slots__ = ("calls", "failures", "seconds")

    def __init__(self) -> None:
        self.calls = 0
        self.failures = 0
        self.seconds: deque[float] = deque(maxlen=512)

    def add(self, seconds: float) -> None:
        """One more call came to its end."""
        self.calls += 1
        self.seconds.append(seconds)
