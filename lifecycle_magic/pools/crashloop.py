"""When a pool stops starting containers: if one after the other goes wrong, so does the next.

There are two ways to go wrong. A start may fail: then whoever waits hears why, and only what nobody
waits for (``min_containers``) would be tried for ever. Or a container comes up and dies before it
answered a call: then nobody would hear of it, and those who wait would wait for ever.
"""

from __future__ import annotations

__all__ = ["CRASH_LOOP", "CrashLoop"]

CRASH_LOOP = 3
"""Containers of a pool that may die at their start, one after the other, before it stops
replacing them."""


class CrashLoop:
    """What became of a pool's containers lately. All of it under the pool's lock, but for
    ``crashes``, which whoever gets an answer sets to 0.
    """

    def __init__(self) -> None:
        self.crashes = 0  # containers in a row that died before they answered a call
        self._failed_starts = 0  # in a row
        self._gave_up = False  # until the next call

    def came_up(self) -> None:
        """A start succeeded."""
        self._failed_starts = 0

    def did_not_come_up(self) -> None:
        """A start failed."""
        self._failed_starts += 1

    def died(self) -> bool:
        """A container died before it answered a call; whether that was one too many. Then no more
        are started until somebody asks for one.
        """
        self.crashes += 1
        if self.crashes < CRASH_LOOP:
            return False
        self.crashes = 0
        self._gave_up = True
        return True

    def may_start(self, alive: int, waiting: int) -> bool:
        """Whether to start another container, beside so many, for so many inputs that wait."""
        if self._failed_starts >= CRASH_LOOP and (alive or not waiting):
            return False  # those there are go on; if there are none, the next call tries again
        if self._gave_up and not waiting:
            return False
        self._gave_up = False
        return True
