"""The containers of a pool that have been idle for their ``scaledown_window``.

There is one timer per pool, for the container whose window ends first. The timer is not reset with
every call: when it fires and that container has had an input meanwhile, it is set for the remaining
time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from lifecycle_magic.container.container import Container
from lifecycle_magic.lifecycle.states import WARM_STATES
from lifecycle_magic.threads.event_loop import EventLoop, Timer

__all__ = ["ScaleDown"]


class ScaleDown:
    """The idle times of a pool's containers, used under the pool's lock.

    ``look`` is called without the lock, on the event loop's thread, when it is time to ask which
    containers are `pop_overdue`. A ``window`` is in seconds; None means forever.
    """

    def __init__(self, event_loop: EventLoop, look: Callable[[], None]) -> None:
        self._event_loop = event_loop
        self._look = look
        # of time.monotonic; also for some that are busy again
        self._since: dict[Container, float] = {}
        self._timer: Timer | None = None

    def record_idle(self, container: Container, window: float) -> None:
        """Record that one of a container's slots is free. If all are, its idle time starts."""
        if container.running:
            return
        self._since[container] = time.monotonic()
        if self._timer is None:
            self._timer = self._event_loop.call_later(window, self._look)

    def pop_overdue(
        self, containers: Iterable[Container], window: float, spare: int
    ) -> list[Container]:
        """Remove and return the containers that have been idle for the whole window.

        They are at most ``spare``, the longest idle first. The timer is set for the next container.
        """
        now = time.monotonic()
        self._timer = None
        found: list[Container] = []
        idle = [one for one in containers if one.running == 0 and one in self._since]
        for container in sorted(idle, key=self._since.__getitem__):
            left = self._since[container] + window - now
            if left > 0:
                self._timer = self._event_loop.call_later(left, self._look)
                break
            if len(found) < spare:
                found.append(container)
        for container in found:
            self.forget(container)
        return found

    def restart(self, containers: Iterable[Container], window: float | None) -> None:
        """Restart the idle times of all idle containers, because the window has changed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if window is None:
            return
        for container in containers:
            if container.state in WARM_STATES:  # one that is starting is recorded when it is ready
                self.record_idle(container, window)

    def forget(self, container: Container) -> None:
        """Remove a container that is draining or has exited."""
        self._since.pop(container, None)
