"""The exchange of the code of live instances.

A container gets new code when no input runs there, so that an input ends on the code that it began
with. Until then its free slots are held back: an input would begin on the old code. An idle
container gets the new code at once, in the thread that asks for the swap; a busy one gets it after
its last input, in the thread that releases the slot.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from lifecycle_magic.container.container import Container
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.container.slots import Slot
from lifecycle_magic.container.worker_answers import load_code
from lifecycle_magic.exception import ContainerDied
from lifecycle_magic.lifecycle.states import ENDED_STATES
from lifecycle_magic.threads.event_loop import EventLoop
from lifecycle_magic.wire.messages import Swap

__all__ = ["CodeSwapper"]


class CodeSwapper:
    """The code that a pool's containers should have, and the containers that still wait for it.

    ``lock`` is the pool's: whether a slot is held back must not change while the pool assigns it.
    ``offer`` is the pool's function that takes a free slot; it is called without the lock.
    """

    def __init__(
        self, lock: threading.Lock, event_loop: EventLoop, offer: Callable[[Slot], None]
    ) -> None:
        self.code: Swap | None = None  # None if it is the code that they started with
        self._lock = lock
        self._event_loop = event_loop
        self._offer = offer
        self._held_back: dict[Container, list[Slot]] = {}
        self._renewing: Container | None = None  # the container that `swap` updates now

    def is_current(self, container: Container) -> bool:
        """Return whether ``container`` has the code that it should have."""
        return self.code is None or container.code is self.code

    def hold_back(self, slot: Slot) -> list[Slot]:
        """Hold back a free slot of a container that has to get new code. Under the lock.

        Return all slots of the container once none of them runs an input, otherwise an empty list.
        """
        container = slot.container
        if container.state in ENDED_STATES:
            return []
        slots = self._held_back.setdefault(container, [])
        slots.append(slot)
        return self._held_back.pop(container) if len(slots) == len(container.slots) else []

    def is_held_back(self, container: Container) -> bool:
        """Return whether slots of ``container`` are held back until its others are free. Under the
        lock.
        """
        return container in self._held_back

    def forget(self, container: Container) -> None:
        """Remove an exited container. Under the lock."""
        self._held_back.pop(container, None)

    def renew(self, slots: Sequence[Slot]) -> None:
        """Load the current code into a container, then offer its ``slots``."""
        if self._event_loop.is_current_thread:  # loading code may take long
            threading.Thread(target=self.renew, args=(slots,), daemon=True).start()
            return
        code, container = self.code, slots[0].container
        if code is not None:
            try:
                load_code(container, code, slots[0])
            except Exception as error:
                why = f"the new code does not fit its live instance: {error}"
                container.end(Ending(EndKind.DRAIN, why))
                return
        for slot in slots:
            self._offer(slot)

    def swap(self, code: Swap, take_idle: Callable[[], list[Slot]]) -> None:
        """Load ``code`` into every instance: see `Pool.swap`.

        ``take_idle``, called under the lock, removes all free slots from the pool.
        """
        with self._lock:
            before, self.code = self.code, code
            free = [slots for slot in take_idle() if (slots := self.hold_back(slot))]
        try:
            for slots in free:
                self._renewing = slots[0].container
                try:
                    load_code(slots[0].container, code, slots[0])
                except ContainerDied:
                    pass  # not a refusal: the container that replaces it has the new code
        except Exception:
            with self._lock:
                self.code = before
                free += self._held_back.values()
                self._held_back.clear()
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
                container.end(Ending(EndKind.KILL, "the change of its code was interrupted"))

        self._event_loop.call_soon(give_up)
