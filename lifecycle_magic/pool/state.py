"""The state of a pool, guarded by one lock."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from lifecycle_magic.container.container import Container
from lifecycle_magic.container.slots import Slot
from lifecycle_magic.exception import StartError
from lifecycle_magic.lifecycle.states import WARM_STATES
from lifecycle_magic.pool.claim import Claim
from lifecycle_magic.pool.sizing import Limits

__all__ = ["PoolState"]


class PoolState:
    """The containers of a pool, its free slots and the claims that wait for one.

    All of it is read and changed under ``lock``. No code blocks while holding the lock.
    """

    __slots__ = ("closed", "containers", "idle", "limits", "lock", "name", "starting", "waiting")

    def __init__(self, name: str, limits: Limits) -> None:
        self.name = name
        self.limits = limits
        self.lock = threading.Lock()
        self.containers: list[Container] = []
        self.idle: list[Slot] = []  # the most recently used last: the warmest caches first
        self.waiting: deque[Claim] = deque()
        self.starting = 0  # containers that are starting
        self.closed: str | None = None  # why the pool accepts no more claims

    def check_open(self) -> None:
        """Raise `StartError` if the pool is closed."""
        if self.closed is not None:
            raise StartError(self.closed)

    def alive(self) -> list[Container]:
        """Return the containers that take inputs."""
        return [container for container in self.containers if container.state in WARM_STATES]

    def forget_slots(self, containers: Sequence[Container]) -> None:
        """Remove the free slots of ``containers``."""
        self.idle[:] = [slot for slot in self.idle if slot.container not in containers]

    def clear_waiting(self) -> list[Claim]:
        """Remove and return all waiting claims."""
        waiting = list(self.waiting)
        self.waiting.clear()
        return waiting

    def withdraw(self, claim: Claim) -> bool:
        """Remove a waiting claim. Return whether it was still waiting for a slot."""
        was_waiting = claim in self.waiting
        if was_waiting:
            self.waiting.remove(claim)
        return was_waiting

    def take_idle(self) -> list[Slot]:
        """Remove and return every free slot."""
        free = list(self.idle)
        self.idle.clear()
        return free
