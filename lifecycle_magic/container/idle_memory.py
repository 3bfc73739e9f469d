"""The release of unused shared memory, also while no call runs.

The worker checks for unused memory between two waits for an input. The kernel does not wait between
two calls, so a timer checks there, and only while there are segments to check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from lifecycle_magic.threads.event_loop import EventLoop
from lifecycle_magic.wire import shared
from lifecycle_magic.wire.frames import Channel

__all__ = ["IdleMemory"]


class IdleMemory:
    """The shared memory of a container's ``channels``. ``lives`` returns whether the container
    exists.
    """

    def __init__(
        self, channels: Iterable[Channel], event_loop: EventLoop, lives: Callable[[], bool]
    ) -> None:
        self._shared = [one.shared for one in channels if one.shared is not None]
        self._event_loop = event_loop
        self._lives = lives
        self._is_due = False  # the timer is set

    def watch(self) -> None:
        """Start to release segments that are unused."""
        for one in self._shared:
            one.on_use = self._on_use

    def _on_use(self) -> None:
        """Set the timer, because there are segments. On any thread."""
        if not self._is_due:
            self._is_due = True
            self._event_loop.call_later(shared.IDLE_SECONDS, self._trim)

    def _trim(self) -> None:
        self._is_due = False
        left = [one.trim() for one in self._shared]
        if any(left) and self._lives():
            self._on_use()
