"""The rule that stops a pool from starting containers after several failures in a row.

There are two kinds of failure. A start may fail: then the waiting callers get the error, and only
the containers that no call waits for (``min_containers``) could be retried forever. Or a container
starts and dies before it has answered a call: then no caller gets an error, and the waiting ones
could wait forever.
"""

from __future__ import annotations

__all__ = ["MAX_CRASHES", "CrashLoop"]

MAX_CRASHES = 3
"""Containers of a pool that may die before their first answer, in a row, before it stops replacing
them.
"""


class CrashLoop:
    """The recent failures of a pool's containers.

    All of it is guarded by the pool's lock, except ``crashes``, which any thread resets to 0 after
    an answer.
    """

    def __init__(self) -> None:
        self.crashes = 0  # containers in a row that died before they answered a call
        self._failed_starts = 0  # in a row
        self._gave_up = False  # until the next call

    def record_start(self) -> None:
        """Record that a start succeeded."""
        self._failed_starts = 0

    def record_failed_start(self) -> None:
        """Record that a start failed."""
        self._failed_starts += 1

    def record_crash(self) -> bool:
        """Record that a container died before it answered a call. Return whether to stop starting
        more.

        After a stop, containers are started again when a call asks for one.
        """
        self.crashes += 1
        if self.crashes < MAX_CRASHES:
            return False
        self.crashes = 0
        self._gave_up = True
        return True

    def may_start(self, alive: int, waiting: int) -> bool:
        """Return whether to start a container next to ``alive`` others, for ``waiting`` inputs."""
        if self._failed_starts >= MAX_CRASHES and (alive or not waiting):
            return False  # the living ones continue; without any, the next call tries again
        return bool(waiting) or not self._gave_up

    def resume(self) -> None:
        """Clear the stop after a crash loop, because an input asks for a container."""
        self._gave_up = False
