"""Shared memory that nobody uses any more goes back to the system, also while nothing is called.

The worker looks for it between two waits for an input. The kernel does not wait between two calls,
so a timer looks there, and only while there are segments to look for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lifecycle_magic.monitor import Monitor
from lifecycle_magic.wire import shared
from lifecycle_magic.wire.frames import Channel

__all__ = ["IdleMemory"]


class IdleMemory:
    """That of a container's ``channels``. ``lives`` says whether there is still that container."""

    def __init__(
        self, channels: Iterable[Channel], monitor: Monitor, lives: Callable[[], bool]
    ) -> None:
        self._shared = [one.shared for one in channels if one.shared is not None]
        self._monitor = monitor
        self._lives = lives
        self._is_due = False  # the timer is set

    def watch(self) -> None:
        """From now on, look after it."""
        for one in self._shared:
            one.on_use = self._on_use

    def _on_use(self) -> None:
        """There are segments. On any thread."""
        if not self._is_due:
            self._is_due = True
            self._monitor.later(shared.IDLE, self._trim)

    def _trim(self) -> None:
        self._is_due = False
        left = [one.trim() for one in self._shared]
        if any(left) and self._lives():
            self._on_use()
