"""New code under live instances.

A container gets it when nothing runs there, so that an input ends on the code that it began with.
Until then its free slots rest: they take no input, for that would begin on the old code. What is
idle gets the new code at once, in the thread that asks for it; a busy container when its last input
is over, in whatever thread gives the slot back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from lifecycle_magic.containers.container import Container
from lifecycle_magic.containers.slots import Slot
from lifecycle_magic.exception import ContainerDied
from lifecycle_magic.monitor import Monitor
from lifecycle_magic.state import GONE
from lifecycle_magic.wire.messages import Swap

__all__ = ["Swapping"]


class Swapping:
    """The code that a pool's containers are to have, and those that still wait for it.

    ``lock`` is the pool's: whether a slot rests must not change while the pool gives it away.
    ``offer`` is the pool's as well, and takes a free slot; without the lock.
    """

    def __init__(
        self, lock: threading.Lock, monitor: Monitor, offer: Callable[[Slot], None]
    ) -> None:
        self.code: Swap | None = None  # if it is not what they began with
        self._lock = lock
        self._monitor = monitor
        self._offer = offer
        self._resting: dict[Container, list[Slot]] = {}
        self._renewing: Container | None = None  # the one that `swap` gives it to now

    def is_current(self, container: Container) -> bool:
        """Whether it has the code that it is to have."""
        return self.code is None or container.code is self.code

    def rest(self, slot: Slot) -> list[Slot]:
        """Under the lock: put by a free slot of a container that has to get new code. That waits
        until nothing runs there; then these are all of its slots, which are to be renewed, else
        none.
        """
        container = slot.container
        if container.state in GONE:
            return []
        slots = self._resting.setdefault(container, [])
        slots.append(slot)
        return self._resting.pop(container) if len(slots) == len(container.slots) else []

    def rests(self, container: Container) -> bool:
        """Under the lock: whether slots of it wait for its others."""
        return container in self._resting

    def forget(self, container: Container) -> None:
        """Under the lock: it is gone."""
        self._resting.pop(container, None)

    def renew(self, slots: Sequence[Slot]) -> None:
        """Bring a container to the current code, and then offer its slots: these."""
        if self._monitor.on_thread:  # loading code may take long
            threading.Thread(target=self.renew, args=(slots,), daemon=True).start()
            return
        code, container = self.code, slots[0].container
        if code is not None:
            try:
                container.swap(code, slots[0])
            except Exception as error:
                container.drain(f"the new code does not fit its live instance: {error}")
                return
        for slot in slots:
            self._offer(slot)

    def swap(self, code: Swap, take_idle: Callable[[], list[Slot]]) -> None:
        """Put ``code`` under every instance: see `Pool.swap`. ``take_idle``, called under the lock,
        takes all free slots out of the pool.
        """
        with self._lock:
            before, self.code = self.code, code
            free = [slots for slot in take_idle() if (slots := self.rest(slot))]
        try:
            for slots in free:
                self._renewing = slots[0].container
                try:
                    slots[0].container.swap(code, slots[0])
                except ContainerDied:
                    pass  # that was no refusal: the one that takes its place has the new code
        except Exception:
            with self._lock:
                self.code = before
                free += self._resting.values()
                self._resting.clear()
            raise
        finally:
            self._renewing = None
            for slot in [slot for slots in free for slot in slots]:
                self._offer(slot)

    def interrupt(self) -> None:
        """Give up the container that `swap` waits for. In a signal handler."""
        container = self._renewing

        def give_up() -> None:
            if container is not None and self._renewing is container:
                container.abandon("the change of its code was interrupted")

        self._monitor.soon(give_up)
