"""Since when the containers of a pool have had nothing to do, and which of them that is too long
for.

There is one timer for all of them, for the one whose ``scaledown_window`` is over first. It is not
set anew with every call: when it fires, and that container has had an input meanwhile, it is set
for what is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from lifecycle_magic.containers.container import Container
from lifecycle_magic.monitor import Monitor, Timer
from lifecycle_magic.state import WARM

__all__ = ["Scaledown"]


class Scaledown:
    """Used under the pool's lock. ``look`` is called without it, on the monitor's thread, when it
    is time to ask who is `overdue`. A ``window`` is seconds, None is for ever.
    """

    def __init__(self, monitor: Monitor, look: Callable[[], None]) -> None:
        self._monitor = monitor
        self._look = look
        self._since: dict[Container, float] = {}  # of time.monotonic; also of some at work again
        self._timer: Timer | None = None

    def note(self, container: Container, window: float | None) -> None:
        """One of its slots is free. If they all are, it has nothing to do from now on."""
        if window is None or container.running:
            return
        self._since[container] = time.monotonic()
        if self._timer is None:
            self._timer = self._monitor.later(window, self._look)

    def overdue(
        self, containers: Iterable[Container], window: float, spare: int
    ) -> list[Container]:
        """Those of ``containers`` that have been idle for the whole window, ``spare`` at most, the
        longest first. They are forgotten; the next look is when another one's time is over.
        """
        now = time.monotonic()
        self._timer = None
        found: list[Container] = []
        idle = [one for one in containers if one.running == 0 and one in self._since]
        for container in sorted(idle, key=self._since.__getitem__):
            left = self._since[container] + window - now
            if left > 0:
                self._timer = self._monitor.later(left, self._look)
                break
            if len(found) < spare:
                found.append(container)
        for container in found:
            self.forget(container)
        return found

    def begin_anew(self, containers: Iterable[Container], window: float | None) -> None:
        """The window is another: it begins now for those that have nothing to do."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for container in containers:
            if container.state in WARM:  # one that comes up is noted when it has
                self.note(container, window)

    def forget(self, container: Container) -> None:
        """It is gone, or going."""
        self._since.pop(container, None)
