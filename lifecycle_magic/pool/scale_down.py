"""The end of idle containers: after their ``scaledown_window``, or above ``max_containers``.

There is one timer per pool, for the container whose window ends first. The timer is not reset with
every call: when it fires and that container has had an input meanwhile, it is set for the remaining
time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from lifecycle_magic.container.container import Container
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.lifecycle.states import WARM_STATES
from lifecycle_magic.pool.sizing import wanted
from lifecycle_magic.pool.state import PoolState
from lifecycle_magic.threads.event_loop import EventLoop, Timer

__all__ = ["ScaleDown"]


class ScaleDown:
    """The idle times of the containers of the pool with this ``state``.

    ``refill`` starts a container if one is needed. It is called after containers were ended,
    because a claim may have arrived at that very moment.
    """

    def __init__(self, state: PoolState, event_loop: EventLoop, refill: Callable[[], None]) -> None:
        self._state = state
        self._event_loop = event_loop
        self._refill = refill
        # of time.monotonic; also for some that are busy again
        self._since: dict[Container, float] = {}
        self._timer: Timer | None = None

    def record_idle(self, container: Container) -> None:
        """Record that one of a container's slots is free. If all are, its idle time starts.

        Under the pool's lock, if the pool has a ``scaledown_window``.
        """
        window = self._state.limits.scaledown_window
        if container.running or window is None:
            return
        self._since[container] = time.monotonic()
        if self._timer is None:
            self._timer = self._event_loop.call_later(window, self._end_overdue)

    def restart(self) -> None:
        """Restart the idle times of all idle containers, because the window has changed. Under the
        lock.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for container in self._state.containers:
            if container.state in WARM_STATES:  # one that is starting is recorded when it is ready
                self.record_idle(container)

    def forget(self, container: Container) -> None:
        """Remove a container that is draining or has exited. Under the lock."""
        self._since.pop(container, None)

    def fit(self) -> None:
        """End idle containers above the pool's maximum, and start what its limits ask for."""
        state = self._state
        with state.lock:
            alive = state.alive()
            spare = len(alive) - state.limits.most
            leaving = [one for one in alive if not one.running][: max(spare, 0)]
            state.forget_slots(leaving)
        for container in leaving:
            container.end(Ending(EndKind.DRAIN, "max_containers was lowered"))
        self._refill()

    def _end_overdue(self) -> None:
        """End the containers whose window is over. On the event loop's thread."""
        state = self._state
        window = state.limits.scaledown_window
        if window is None:
            return
        with state.lock:
            alive = state.alive()
            spare = len(alive) - wanted(state.limits, sum(one.running for one in alive))
            leaving = self._pop_overdue(window, spare)
            state.forget_slots(leaving)
        for container in leaving:
            container.end(Ending(EndKind.DRAIN, f"it was idle for scaledown_window={window:g} s"))
        if leaving:
            self._refill()

    def _pop_overdue(self, window: float, spare: int) -> list[Container]:
        """Remove and return the containers that have been idle for the whole window.

        They are at most ``spare``, the longest idle first. The timer is set for the next container.
        """
        now = time.monotonic()
        self._timer = None
        found: list[Container] = []
        idle = [one for one in self._state.containers if one.running == 0 and one in self._since]
        for container in sorted(idle, key=self._since.__getitem__):
            left = self._since[container] + window - now
            if left > 0:
                self._timer = self._event_loop.call_later(left, self._end_overdue)
                break
            if len(found) < spare:
                found.append(container)
        for container in found:
            self.forget(container)
        return found
