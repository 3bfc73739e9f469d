"""A pool: the warm containers of one class with one set of arguments, and the claims of the calls
that wait for them.

Claims arrive by `Pool.lease` (the caller waits) or `Pool.submit` (the caller does not). A free slot
takes a claim at once; otherwise the claim waits, and the pool starts a container, on a thread of
its own, if it may have one more. One lock guards all of a pool's `state`, and no code blocks while
holding it. These matters have modules of their own, under the same lock: the starts of containers
(`starts`), which have been idle too long (`scale_down`), and which code live instances should have
(`swap`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from lifecycle_magic.container.container import Container
from lifecycle_magic.container.endings import SINGLE_USE, Ending, EndKind
from lifecycle_magic.container.slots import Slot
from lifecycle_magic.exception import StartError
from lifecycle_magic.lifecycle.states import ENDED_STATES, WARM_STATES
from lifecycle_magic.pool.claim import BlockingClaim, Claim
from lifecycle_magic.pool.deadlocks import (
    Deadlocks,
    free_abandoned_generators,
    notify_blocking,
    waiter,
)
from lifecycle_magic.pool.pending_start import PendingStart
from lifecycle_magic.pool.scale_down import ScaleDown
from lifecycle_magic.pool.sizing import Limits
from lifecycle_magic.pool.starts import Starts, refuse
from lifecycle_magic.pool.state import PoolState
from lifecycle_magic.pool.swap import CodeSwapper
from lifecycle_magic.spec.class_spec import ClassSpec
from lifecycle_magic.spec.retries import Retries
from lifecycle_magic.threads.event_loop import EventLoop
from lifecycle_magic.wire.messages import Swap


class CallStats:
    """Call statistics of a class: counts, and the durations of the last 512 calls in seconds."""

    __slots__ = ("calls", "failures", "seconds")

    def __init__(self) -> None:
        self.calls = 0
        self.failures = 0
        self.seconds: deque[float] = deque(maxlen=512)

    def add(self, seconds: float) -> None:
        """Add one finished call."""
        self.calls += 1
        self.seconds.append(seconds)


class Pool:
    """The containers of one class and one set of arguments.

    ``make`` returns a new, unstarted container of the class's current version, and builds its image
    if necessary; its argument is the function to call when the container has exited. ``limits``
    bound the number of containers. ``timeout`` (seconds) and ``retries`` apply to each attempt of
    an input.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[Callable[[Container], None]], Container],
        event_loop: EventLoop,
        *,
        limits: Limits | None = None,
        timeout: float | None = None,
        retries: Retries | None = None,
        stats: CallStats | None = None,
    ) -> None:
        self.name = name
        self.event_loop = event_loop
        self.timeout = timeout
        self.retries = retries
        self.stats = stats or CallStats()  # of the class, which outlives its pools
        self.on_warm: Callable[[Container], None] | None = None  # gets each that has started
        self.on_limits: Callable[[], None] | None = None  # the limits have changed
        self.batchers: dict[Any, Any] = {}  # of batched methods: `lifecycle_magic.calls.batching`
        self.stale = False  # closed, or its class was redefined: look the pool up again
        self.updates: dict[str, Any] = {}  # options given to `update_autoscaler`
        self.declared: ClassSpec | None = None  # the definition with which it was last looked up
        self._make = make
        self._state = PoolState(name, limits or Limits())
        self._lock = self._state.lock
        self._code_swapper = CodeSwapper(self._lock, event_loop, self._offer)
        self.deadlocks = Deadlocks(self._state, self._code_swapper.is_held_back)
        self._starts = Starts(self._state, self._make_container, self._offer_slots)
        self._scale_down = ScaleDown(self._state, event_loop, self._starts.refill)

    @property
    def limits(self) -> Limits:
        return self._state.limits

    @property
    def containers(self) -> list[Container]:
        """Return its containers that have not exited."""
        return list(self._state.containers)

    @property
    def waiting(self) -> list[Claim]:
        """Return the claims that wait for a slot, the first one first."""
        return list(self._state.waiting)

    @property
    def idle(self) -> list[Slot]:
        """Return the free slots, the most recently used last."""
        return list(self._state.idle)

    # --- claims ----------------------------------------------------------------------------

    def lease(self, claim: BlockingClaim, *, again: bool = False) -> Slot:
        """Return a slot for ``claim``, after waiting for one if necessary.

        Raises the error that kept a container from starting, and `InvalidError` if this thread
        itself keeps every slot occupied. An interrupt of the main thread ends the wait with
        `InputCancelled`.
        """
        state = self._state
        with state.lock:
            if state.closed is not None:
                raise StartError(state.closed)
            slot = self._take(claim)
            stuck = False
            if slot is None:
                claim.close_gate()
                busy, stuck = self.deadlocks.busy_slots(waiter())
                if stuck and again:
                    raise self.deadlocks.error(claim.where)
                if not stuck:
                    state.waiting.append(claim)
            missing = (
                self._starts.reserve() if (slot is None or state.limits.buffer) and not stuck else 0
            )
        if stuck:
            free_abandoned_generators()
            return self.lease(claim, again=True)
        if missing:
            self._starts.start(missing)
        if slot is not None:
            return slot
        notify_blocking(busy)
        claim.wait()
        with state.lock:  # an interrupt may have ended the wait before a grant
            slot, error = claim.slot, claim.error
            if slot is None and error is None:
                state.withdraw(claim)
                error = claim.not_started_error()
        if slot is not None:
            return slot
        assert error is not None
        raise error

    def lease_idle(self, claim: Claim) -> Slot | None:
        """Return a slot for ``claim`` if one is free now, otherwise None."""
        state = self._state
        with state.lock:
            slot = self._take(claim) if state.closed is None else None
            missing = self._starts.reserve() if slot is not None and state.limits.buffer else 0
        if missing:
            self._starts.start(missing)
        return slot

    def lease_in(self, container: Container, claim: Claim) -> Slot | None:
        """Return a slot of ``container`` for ``claim`` if one is free now, otherwise None."""
        idle = self._state.idle
        with self._state.lock:
            for slot in idle:
                if slot.container is container and container.occupy(slot, claim):
                    idle.remove(slot)
                    claim.slot = slot
                    return slot
        return None

    def submit(self, claim: Claim) -> None:
        """Grant ``claim`` a slot when one is free. No thread waits for it."""
        state = self._state
        with state.lock:
            closed = state.closed
            slot = self._take(claim) if closed is None else None
            if slot is None and closed is None:
                state.waiting.append(claim)
            missing = self._starts.reserve() if slot is None or state.limits.buffer else 0
        self._starts.start(missing)
        if closed is not None:
            claim.refused(StartError(closed))
        elif slot is not None:
            claim.granted(slot)

    def _take(self, claim: Claim) -> Slot | None:
        idle = self._state.idle
        while idle:
            slot = idle.pop()
            if slot.container.occupy(slot, claim):
                claim.slot = slot
                return slot
        return None

    def release(self, slot: Slot) -> None:
        """End the input in ``slot``, and give the slot to the next waiting claim."""
        slot.outputs.end_input()
        input = slot.input
        if input is not None:
            if input.counts_as_call:
                self.stats.add(time.monotonic() - slot.began)
            input.slot = None
        if self._state.limits.single_use and slot.container.calls:
            slot.container.end(SINGLE_USE)
        if slot.container.vacate(slot):
            self._starts.crash_loop.crashes = 0
            self._offer(slot)
        elif slot.container.state in ENDED_STATES:
            slot.close()

    def _offer(self, slot: Slot) -> None:
        """Give a free slot to the first waiting claim, or store it as idle."""
        claim: Claim | None = None
        with self._lock:
            code = self._code_swapper.code
            if code is not None and slot.container.code is not code:
                outdated = self._code_swapper.hold_back(slot)
            else:
                outdated = []
                claim = self._give(slot)
        if outdated:
            self._code_swapper.renew(outdated)
        if claim is not None and not claim.blocks_thread:
            claim.granted(slot)

    def _give(self, slot: Slot) -> Claim | None:
        """Give a free slot to the first waiting claim and return that claim. Under the lock.

        A claim that blocks a thread has been granted the slot by then.
        """
        state = self._state
        while state.waiting:
            claim = state.waiting.popleft()
            if not slot.container.occupy(slot, claim):
                state.waiting.appendleft(claim)
                return None
            if claim.blocks_thread:
                claim.granted(slot)  # under the lock, as the waiting thread reads its slot under it
            return claim
        state.idle.append(slot)
        if state.limits.scaledown_window is not None:
            self._scale_down.record_idle(slot.container)
        return None

    def withdraw(self, claim: Claim) -> bool:
        """Withdraw ``claim`` from the queue. Return whether it was still waiting for a slot."""
        with self._lock:
            return self._state.withdraw(claim)

    def can_keep(self, slot: Slot) -> bool:
        """Return whether a map that holds ``slot`` for many inputs may keep it.

        It may if no other call waits and neither the container nor its code has changed, and if the
        container is not for one input only.
        """
        if self._state.limits.single_use and slot.container.calls:
            return False
        if slot.container.state not in WARM_STATES or not self._code_swapper.is_current(
            slot.container
        ):
            return False
        return not any(claim.displaces_maps for claim in self._state.waiting.copy())

    # --- containers ------------------------------------------------------------------------

    def warm(self) -> None:
        """Start a container if none is warm or starting, and wait until it is ready.

        Also start the other ``min_containers``, without waiting for them. Raises the error of a
        failed start.
        """
        self._starts.warm()

    def _make_container(self) -> Container:
        # Read before `make` reads the version: at worst the container is updated twice.
        code = self._code_swapper.code
        container = self._make(self.record_exit)
        container.code = code
        return container

    def _offer_slots(self, container: Container) -> None:
        """Give the slots of a ready container to the waiting claims."""
        closed = self._state.closed
        if closed is not None:
            container.end(Ending(EndKind.DRAIN, closed))
        elif self.on_warm is not None:
            self.on_warm(container)
        for slot in container.slots:
            self._offer(slot)
        self._starts.refill()  # during its start it was counted twice

    def record_exit(self, container: Container) -> None:
        """Remove a container that has exited, and start another one if it is needed."""
        with self._lock:
            if container in self._state.containers:
                self._state.containers.remove(container)
            self._state.forget_slots([container])
            self._code_swapper.forget(container)
            self._scale_down.forget(container)
            act = self._starts.after_exit(container)
        act()

    # --- limits, new code, replacing, closing ----------------------------------------------

    def set_limits(
        self,
        *,
        limits: Limits,
        timeout: float | None,
        retries: Retries | None,
        updates: dict[str, Any] | None = None,
    ) -> None:
        """Change the limits. They take effect with the next input or the next check.

        ``updates`` are the options that differ from those of the declaration.
        """
        with self._lock:
            self.updates = updates or {}
            self._state.limits, self.timeout, self.retries = limits, timeout, retries
            self._scale_down.restart()
        if self.on_limits is not None:
            self.on_limits()

    def fit_limits(self) -> None:
        """Start what `limits` ask for, and stop idle containers above their maximum."""
        self._scale_down.fit()

    def adopt(self, container: Container) -> None:
        """Add a container that was started elsewhere."""
        with self._lock:
            self._state.containers.append(container)
        for slot in container.slots:
            self._offer(slot)

    def take_in(self, container: Container) -> None:
        """Add a container that this pool did not start, as if it had.

        Its maker calls `record_exit` when it has exited, or has done so already.
        """
        container.on_draining = self._starts.refill
        self.adopt(container)

    def swap(self, swap: Swap) -> None:
        """Load new code into every live instance. Running inputs finish on the code they began
        with.

        Raises the refusal of an idle instance, which then keeps its old code. A busy instance gets
        the new code when no input runs there any more, and is drained if it refuses. Containers
        that start later have the new code anyway.
        """
        self._code_swapper.swap(swap, self._state.take_idle)

    def interrupt_swap(self) -> None:
        """Give up the container that `swap` waits for. In a signal handler."""
        self._code_swapper.interrupt()

    def start_replacement(
        self, pending: PendingStart, on_gpu_shortage: Callable[[], bool]
    ) -> tuple[Container, list[Container]]:
        """Start a container of the current version that takes no inputs yet.

        ``on_gpu_shortage`` is called while it waits for a GPU. Return it and the containers that it
        will replace. Raises the error of a failed start.
        """
        with self._lock:
            old = self.containers
            self._state.starting += 1
        return self._starts.start_one(pending, on_gpu_shortage), old

    def install_replacement(self, new: Container, old: Sequence[Container], why: str) -> None:
        """Let a replacement take inputs, and drain the containers that it replaces."""
        self._offer_slots(new)
        for container in old:
            container.end(Ending(EndKind.DRAIN, why))

    def close(self, why: str) -> list[Container]:
        """Refuse all claims, cancel the running ones and stop every container. Return the stopping
        ones.
        """
        with self._lock:
            self._state.closed = why
            self.stale = True
            waiting = self._state.clear_waiting()
            going = self.containers
        refuse(self._state, waiting, StartError(why))
        for container in going:
            container.end(Ending(EndKind.STOP, why))
        return going
