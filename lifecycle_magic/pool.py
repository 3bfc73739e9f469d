"""A pool: the warm containers of one class with one set of arguments, and the inputs that wait
for them.

Inputs come by `Pool.lease` (the caller waits) or `Pool.submit` (it does not). A free slot takes
an input at once; else the input waits and the pool starts a container, on a thread of its own,
if it may have one more. All of a pool's state is guarded by one lock, and nothing that blocks
happens under it.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from lifecycle_magic.container import Container
from lifecycle_magic.exception import BuildError, ContainerDied, InvalidError, StartError
from lifecycle_magic.failure import hide_plumbing
from lifecycle_magic.inputs import Input, show
from lifecycle_magic.monitor import Monitor, Timer
from lifecycle_magic.options import Retries
from lifecycle_magic.sizing import Limits, wanted
from lifecycle_magic.slots import Slot
from lifecycle_magic.state import GONE, WARM, State
from lifecycle_magic.stats import Stats
from lifecycle_magic.wire.messages import Swap
from lifecycle_magic.wish import Wish, wait_for

CRASH_LOOP = 3
"""Containers of a pool that may die at their start, one after the other, before it stops
replacing them."""


class Pool:
    """Containers for one class and one set of arguments.

    ``make`` returns a new, unstarted container of the class's current version, building its image
    if need be; it gets the function that is to be called when the container is gone. ``limits`` say
    how many there may be, ``timeout`` (seconds) and ``retries`` hold for each attempt of an input.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[Callable[[Container], None]], Container],
        monitor: Monitor,
        *,
        limits: Limits | None = None,
        timeout: float | None = None,
        retries: Retries | None = None,
        stats: Stats | None = None,
    ) -> None:
        self.name = name
        self.monitor = monitor
        self.limits = limits or Limits()
        self.timeout = timeout
        self.retries = retries
        self.containers: list[Container] = []
        self.stats = stats or Stats()  # a class's, which outlives its pools
        self.on_warm: Callable[[], None] | None = None  # a container came up
        self.batchers: dict[Any, Any] = {}  # of batched methods: `lifecycle_magic.batching`
        self.stale = False  # closed, or its class was declared anew: look it up again
        self._make = make
        self._lock = threading.Lock()
        self._idle: list[Slot] = []  # the most recently used last: the warmest caches first
        self._waiting: deque[Input] = deque()
        self._starting = 0
        self._crashes = 0  # containers in a row that died before they answered a call
        self._failed_starts = 0  # in a row
        self._gave_up = False  # until the next call: they die too often
        self._closed: str | None = None
        self._swap: Swap | None = (
            None  # the code that live instances are to have, if not what they began with
        )
        self._resting: dict[Container, list[Slot]] = {}  # free slots of those that wait for it
        self._renewing: Container | None = None  # the one that `swap` gives it to now
        self._idle_since: dict[Container, float] = {}
        self._scaledown: Timer | None = None

    # --- inputs ----------------------------------------------------------------------------

    def lease(self, input: Input) -> Slot:
        """A slot for ``input``; waits for one. Raises what kept a container from coming up, and
        `InvalidError` where this very thread keeps every slot from coming free.

        An interrupt of the main thread ends the wait with `InputCancelled`.
        """
        with self._lock:
            if self._closed is not None:
                raise StartError(self._closed)
            gate = input.gate = threading.Lock()
            gate.acquire()
            if input.interrupts:  # between two attempts
                raise input.before_it_began()
            slot = self._take(input)
            if slot is None:
                self._check_not_stuck(input)
                self._waiting.append(input)
            missing = self._missing() if slot is None or self.limits.buffer else 0
        if missing:
            self._start(missing)
        if slot is not None:
            return slot
        gate.acquire()
        with self._lock:  # an interrupt may have opened the gate, and a grant followed
            slot, error = input.slot, input.error
            if slot is None and error is None:
                if input in self._waiting:
                    self._waiting.remove(input)
                error = input.before_it_began()
        if slot is not None:
            return slot
        assert error is not None
        raise error

    def submit(self, input: Input) -> None:
        """Have ``input`` granted a slot when one is free; it must not be one that waits at a
        gate.
        """
        missing = 0
        with self._lock:
            closed = self._closed
            slot = self._take(input) if closed is None else None
            if slot is None and closed is None:
                self._waiting.append(input)
            if closed is None and (slot is None or self.limits.buffer):
                missing = self._missing()
        self._start(missing)
        if closed is not None:
            input.refuse(StartError(closed))
        elif slot is not None:
            input.grant(slot)

    def _take(self, input: Input) -> Slot | None:
        while self._idle:
            slot = self._idle.pop()
            if slot.container.occupy(slot, input):
                input.slot = slot
                return slot
        return None

    def _check_not_stuck(self, input: Input) -> None:
        """Under the lock: refuse to wait for a slot that only this thread could give back."""
        alive = self._alive()
        if self._starting or not alive or len(alive) < self.limits.most:
            return
        here = threading.get_ident()
        busy = [s for c in alive for s in c.slots if s.input is not None or c not in self._resting]
        if busy and all(slot.input is not None and slot.reader == here for slot in busy):
            raise InvalidError(
                f"{input.where} would wait for ever: all that {self.name} runs at once "
                f"({self.capacity}) are generators that this thread has not read to their end. "
                "Read them first (list(...)), close() them, or let the class have one more "
                f"container: max_containers={self.limits.most + 1}."
            )

    def release(self, slot: Slot) -> None:
        """The input in ``slot`` is over: the next waiting one gets it."""
        input = slot.input
        if input is not None:
            if input.counts:
                self.stats.add(time.monotonic() - slot.began)
            input.slot = None
        if slot.container.vacate(slot):
            self._crashes = 0
            self._offer(slot)
        elif slot.container.state in GONE:
            slot.close()

    def _offer(self, slot: Slot) -> None:
        """Give a free slot to the first who waits, or put it by."""
        granted: Input | None = None
        with self._lock:
            if not self._is_current(slot.container):
                outdated = self._rest(slot)
            else:
                outdated = []
                granted = self._give(slot)
        if outdated:
            self._renew(outdated)
        if granted is not None and granted.gate is None:
            granted.grant(slot)

    def _give(self, slot: Slot) -> Input | None:
        """Under the lock: who gets a free slot. One who waits at a gate has it already."""
        while self._waiting:
            input = self._waiting.popleft()
            if not slot.container.occupy(slot, input):
                self._waiting.appendleft(input)
                return None
            if input.gate is not None:
                input.grant(slot)  # under the lock: the waiter looks at its slot under it
            return input
        self._idle.append(slot)
        self._arm_scaledown(slot.container)
        return None

    def forget(self, input: Input) -> bool:
        """``input`` does not want a slot any more; whether it was still waiting for one."""
        with self._lock:
            if input in self._waiting:
                self._waiting.remove(input)
                return True
            return False

    @property
    def capacity(self) -> int:
        """How many inputs can run at once, with every container that is allowed."""
        return self.limits.most * self.limits.slots

    def keeps(self, slot: Slot) -> bool:
        """Whether one who holds ``slot`` for many inputs may go on: nobody else waits, nothing
        changed.
        """
        if slot.container.state not in WARM or not self._is_current(slot.container):
            return False
        return not any(input.shares for input in self._waiting.copy())

    # --- containers ------------------------------------------------------------------------

    def warm(self) -> None:
        """Start a container if none is up or coming, and wait until it is; of the others that
        there should be at least (``min_containers``) only the start. Raises why it does not.
        """

        def start(wish: Wish) -> None:
            with self._lock:
                if self._starting or any(c.state in WARM for c in self.containers):
                    return
                count = max(self.limits.least, 1)
                self._starting += count
            self._start(count - 1)
            error = self._bring_up(wish)
            if error is not None:
                raise error

        wait_for(start)

    def _missing(self) -> int:
        """How many containers to start for those who wait. Under the lock."""
        alive = self._alive()
        if self._failed_starts >= CRASH_LOOP and (alive or not self._waiting):
            return 0  # those there are go on; if there are none, the next call tries again
        if self._gave_up and not self._waiting:
            return 0
        self._gave_up = False
        running = sum(container.running for container in alive)
        there = len(alive) + self._starting
        count = max(0, wanted(self.limits, len(self._waiting) + running) - there)
        self._starting += count
        return count

    def _alive(self) -> list[Container]:
        return [container for container in self.containers if container.state in WARM]

    def _refill(self) -> None:
        """A container takes no more inputs: start another one for those who wait."""
        with self._lock:
            missing = self._missing() if self._closed is None else 0
        self._start(missing)

    def _start(self, count: int) -> None:
        for _ in range(count):
            threading.Thread(target=self._bring_up, name=f"{self.name}-start", daemon=True).start()

    def _bring_up(self, wish: Wish | None = None) -> BaseException | None:
        """Start one container, give its slots to those who wait; the error if it does not come
        up. ``wish`` is that of whoever waits for this one.
        """
        try:
            container = self._start_one(wish)
        except BaseException as error:
            return error
        self._welcome(container)
        return None

    def _start_one(self, wish: Wish | None = None) -> Container:
        """One that is up, and whose slots nobody has yet. Raises why it does not come up."""
        try:
            code = (
                self._swap
            )  # before `make` looks at the version: at worst it is brought up to date twice
            self._check_open()
            container = self._make(self._on_gone)
            container.code = code
            container.on_leaving = self._refill
            if wish is not None:
                wish.made(container)
            with self._lock:
                self.containers.append(container)
                first = self._waiting[0] if self._waiting else None
                closed = self._closed
            if closed is not None:
                container.kill(closed)  # there is nothing of it but a folder
                raise StartError(closed)
            container.start(first.show_from_elsewhere if first is not None else show)
        except BaseException as caught:
            error = caught if wish is None else wish.cause(caught)
            hide_plumbing(error)
            self._failed_to_start(error)
            if error is caught:
                raise
            raise error from None
        with self._lock:
            self._starting -= 1
            self._failed_starts = 0
        return container

    def _welcome(self, container: Container) -> None:
        """Give the slots of one that is up to those who wait."""
        closed = self._closed
        if closed is not None:
            container.drain(closed)
        elif self.on_warm is not None:
            self.on_warm()
        for slot in container.slots:
            self._offer(slot)
        self._refill()  # while it came up it was counted twice

    def _check_open(self) -> None:
        if self._closed is not None:
            raise StartError(self._closed)

    def _failed_to_start(self, error: BaseException) -> None:
        """Everybody who waits hears of it now; the next call starts afresh. Where there are other
        containers they go on, and whoever waits goes on waiting for them; so it does where one
        who did not want to wait any longer interrupted the start.
        """
        if not isinstance(error, Exception):
            with self._lock:
                self._starting -= 1
                missing = self._missing() if self._waiting and self._closed is None else 0
            self._start(missing)
            return
        with self._lock:
            self._starting -= 1
            self._failed_starts += 1
            alive = len(self._alive())
            waiting = list(self._waiting)
            if not alive:
                self._waiting.clear()
        if not alive:
            self._refuse(waiting, error)
        elif waiting:
            text = f"{self.name}: another container did not start, going on with {alive}: {error}\n"
            waiting[0].show_from_elsewhere("stderr", text)
        if not waiting and not isinstance(error, (BuildError, InvalidError)):
            self._refill()  # those that there should be at least

    def _on_gone(self, container: Container) -> None:
        refused: list[Input] = []
        with self._lock:
            if container in self.containers:
                self.containers.remove(container)
            self._idle = [slot for slot in self._idle if slot.container is not container]
            self._resting.pop(container, None)
            self._idle_since.pop(container, None)
            crashed = container.state is State.FAILED and not container.told_start
            if crashed and container.calls == 0:
                self._crashes += 1
            missing = 0
            stopped = self._closed is None and self._crashes >= CRASH_LOOP
            if stopped:
                refused, self._waiting = list(self._waiting), deque()
                self._crashes = 0
                self._gave_up = True
            elif self._closed is None:
                missing = self._missing()
        self._start(missing)
        if stopped:
            why = (
                f"{CRASH_LOOP} containers of {self.name} in a row died before they answered a call,"
                f" so no more are started. The last one: {container.obituary()}"
            )
            container.notice(why)
            self._refuse(refused, StartError(why))

    def _refuse(self, waiting: list[Input], error: BaseException) -> None:
        """Tell those who waited, and are no longer in the queue, each with an exception of its
        own.
        """
        for index, input in enumerate(waiting):
            own = error if index == 0 else alike(error)
            if input.gate is None:
                input.refuse(own)
            else:
                with self._lock:
                    input.refuse(own)

    # --- scaling down, replacing, closing --------------------------------------------------

    def _arm_scaledown(self, container: Container) -> None:
        """Under the lock: note that a container has nothing to do, and look again when its time
        is over.
        """
        window = self.limits.scaledown_window
        if window is None or container.running:
            return
        self._idle_since[container] = time.monotonic()
        if self._scaledown is None:
            self._scaledown = self.monitor.later(window, self._scale_down)

    def _scale_down(self) -> None:
        window = self.limits.scaledown_window
        if window is None:
            return
        now = time.monotonic()
        leaving: list[Container] = []
        with self._lock:
            self._scaledown = None
            idle = [c for c in self.containers if c.running == 0 and c in self._idle_since]
            warm = [c for c in self.containers if c.state in WARM]
            spare = len(warm) - wanted(self.limits, sum(c.running for c in warm))
            next_look: float | None = None
            for container in sorted(idle, key=self._idle_since.__getitem__):
                left = self._idle_since[container] + window - now
                if left > 0:
                    next_look = left if next_look is None else min(left, next_look)
                elif len(leaving) < spare:
                    leaving.append(container)
            for container in leaving:
                self._idle_since.pop(container)
            self._idle = [slot for slot in self._idle if slot.container not in leaving]
            if next_look is not None:
                self._scaledown = self.monitor.later(next_look, self._scale_down)
        for container in leaving:
            container.drain(f"it was idle for scaledown_window={window:g} s")
        if leaving:
            self._refill()  # an input may have come in this very moment

    def set_limits(self, *, limits: Limits, timeout: float | None, retries: Retries | None) -> None:
        """Change the bounds; what they ask for happens with the next input or the next look."""
        with self._lock:
            self.limits, self.timeout, self.retries = limits, timeout, retries
            if self._scaledown is not None:
                self._scaledown.cancel()
                self._scaledown = None
            for container in self.containers:
                self._arm_scaledown(container)

    def adopt(self, container: Container) -> None:
        """Take in a container that was started elsewhere."""
        with self._lock:
            self.containers.append(container)
        for slot in container.slots:
            self._offer(slot)

    def swap(self, swap: Swap) -> None:
        """Put new code under every live instance; inputs that run finish on the code they began
        with.

        Raises the refusal of an idle instance, which then keeps its old code. A busy one gets
        the new code when nothing runs there any more, and is drained if it refuses. Containers
        that come up later have the new code anyway.
        """
        with self._lock:
            before, self._swap = self._swap, swap
            idle, self._idle = self._idle, []
            free = [slots for slot in idle if (slots := self._rest(slot))]
        try:
            for slots in free:
                self._renewing = slots[0].container
                try:
                    slots[0].container.swap(swap, slots[0])
                except ContainerDied:
                    pass  # that was no refusal: the one that takes its place has the new code
        except Exception:
            with self._lock:
                self._swap = before
                free += self._resting.values()
                self._resting.clear()
            raise
        finally:
            self._renewing = None
            for slot in [slot for slots in free for slot in slots]:
                self._offer(slot)

    def interrupt_swap(self) -> None:
        """Give up the container that `swap` waits for. In a signal handler."""
        container = self._renewing

        def give_up() -> None:
            if container is not None and self._renewing is container:
                container.abandon("the change of its code was interrupted")

        self.monitor.soon(give_up)

    def _is_current(self, container: Container) -> bool:
        return self._swap is None or container.code is self._swap

    def _rest(self, slot: Slot) -> list[Slot]:
        """Under the lock: put by a free slot of a container that has to get new code. That waits
        until nothing runs there; then these are all of its slots, else none.
        """
        container = slot.container
        if container.state in GONE:
            return []
        slots = self._resting.setdefault(container, [])
        slots.append(slot)
        return self._resting.pop(container) if len(slots) == len(container.slots) else []

    def _renew(self, slots: Sequence[Slot]) -> None:
        """Bring a container to the current code, and then offer its slots: these."""
        if self.monitor.on_thread:  # loading code may take long
            threading.Thread(target=self._renew, args=(slots,), daemon=True).start()
            return
        swap, container = self._swap, slots[0].container
        if swap is not None:
            try:
                container.swap(swap, slots[0])
            except Exception as error:
                container.drain(f"the new code does not fit its live instance: {error}")
                return
        for slot in slots:
            self._offer(slot)

    def bring_replacement(self, wish: Wish) -> tuple[Container, list[Container]]:
        """A container of the current version that is up and takes no inputs yet, and those that
        it is to replace. Raises why it does not come up.
        """
        with self._lock:
            old = list(self.containers)
            self._starting += 1
        return self._start_one(wish), old

    def take_over(self, new: Container, old: Sequence[Container], why: str) -> None:
        """Let a replacement take inputs, and drain those that it replaces."""
        self._welcome(new)
        for container in old:
            container.drain(why)

    def close(self, why: str) -> list[Container]:
        """Take no more inputs, refuse those that wait, drain every container; the containers
        that are going.
        """
        with self._lock:
            self._closed = why
            self.stale = True
            waiting, self._waiting = list(self._waiting), deque()
            going = list(self.containers)
        self._refuse(waiting, StartError(why))
        for container in going:
            container.end(why)
        return going


def replace(pools: Sequence[Pool], why: str) -> None:
    """Bring up a container of the current version in each pool, then drain those that were there.

    Raises why one does not come up; all the old ones then stay, and none of the new. An interrupt
    of the wait gives up the new ones.
    """

    def start(wish: Wish) -> None:
        brought: list[tuple[Pool, Container, list[Container]]] = []
        try:
            for pool in pools:
                brought.append((pool, *pool.bring_replacement(wish)))
        except BaseException:
            for _, new, _ in brought:
                new.drain("the new version did not come up with all arguments")
            raise
        for pool, new, old in brought:
            pool.take_over(new, old, why)

    wait_for(start)


def alike(error: BaseException) -> BaseException:
    """An exception for one more waiter: raised in two threads, one object would get both their
    frames.
    """
    try:
        twin = copy.copy(error)
    except Exception:
        return error
    if type(twin) is not type(error):
        return error
    twin.__traceback__ = error.__traceback__
    twin.__cause__ = error.__cause__
    hide_plumbing(twin)
    return twin
