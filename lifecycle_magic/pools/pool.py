"""A pool: the warm containers of one class with one set of arguments, and the inputs that wait
for them.

Inputs come by `Pool.lease` (the caller waits) or `Pool.submit` (it does not). A free slot takes
an input at once; else the input waits and the pool starts a container, on a thread of its own,
if it may have one more. All of a pool's state is guarded by one lock, and nothing that blocks
happens under it. What it knows of three matters is apart, under the same lock: who has been idle
too long (`scaledown`), whether starting more is of any use (`crashloop`), and which code live
instances are to have (`swapping`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from lifecycle_magic.containers.container import Container
from lifecycle_magic.containers.slots import Slot
from lifecycle_magic.exception import BuildError, InvalidError, StartError
from lifecycle_magic.failure import alike, hide_plumbing
from lifecycle_magic.monitor import Monitor
from lifecycle_magic.options import Retries
from lifecycle_magic.pools.crashloop import CRASH_LOOP, CrashLoop
from lifecycle_magic.pools.inputs import Input, show
from lifecycle_magic.pools.scaledown import Scaledown
from lifecycle_magic.pools.sizing import Limits, wanted
from lifecycle_magic.pools.stats import Stats
from lifecycle_magic.pools.swapping import Swapping
from lifecycle_magic.pools.wish import Wish, wait_for
from lifecycle_magic.state import GONE, WARM, State
from lifecycle_magic.wire.messages import Swap


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
        self.batchers: dict[Any, Any] = {}  # of batched methods: `lifecycle_magic.calling.batching`
        self.stale = False  # closed, or its class was declared anew: look it up again
        self._make = make
        self._lock = threading.Lock()
        self._idle: list[Slot] = []  # the most recently used last: the warmest caches first
        self._waiting: deque[Input] = deque()
        self._starting = 0
        self._closed: str | None = None
        self._crashloop = CrashLoop()
        self._scaledown = Scaledown(monitor, self._scale_down)
        self._swapping = Swapping(self._lock, monitor, self._offer)

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
        with self._lock:
            closed = self._closed
            slot = self._take(input) if closed is None else None
            if slot is None and closed is None:
                self._waiting.append(input)
            missing = self._missing() if slot is None or self.limits.buffer else 0
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
        busy = [
            slot
            for container in alive
            for slot in container.slots
            if slot.input is not None or not self._swapping.rests(container)
        ]
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
            self._crashloop.crashes = 0
            self._offer(slot)
        elif slot.container.state in GONE:
            slot.close()

    def _offer(self, slot: Slot) -> None:
        """Give a free slot to the first who waits, or put it by."""
        granted: Input | None = None
        with self._lock:
            if not self._swapping.is_current(slot.container):
                outdated = self._swapping.rest(slot)
            else:
                outdated = []
                granted = self._give(slot)
        if outdated:
            self._swapping.renew(outdated)
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
        self._scaledown.note(slot.container, self.limits.scaledown_window)
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
        if slot.container.state not in WARM or not self._swapping.is_current(slot.container):
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
        if self._closed is not None:
            return 0
        alive, waiting = self._alive(), len(self._waiting)
        if not self._crashloop.may_start(len(alive), waiting):
            return 0
        running = sum([container.running for container in alive])
        there = len(alive) + self._starting
        count = max(0, wanted(self.limits, waiting + running) - there)
        self._starting += count
        return count

    def _alive(self) -> list[Container]:
        return [container for container in self.containers if container.state in WARM]

    def _refill(self) -> None:
        """A container takes no more inputs: start another one for those who wait."""
        with self._lock:
            missing = self._missing()
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
            # Before `make` looks at the version: at worst it is brought up to date twice.
            code = self._swapping.code
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
            self._crashloop.came_up()
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
                missing = self._missing() if self._waiting else 0
            self._start(missing)
            return
        with self._lock:
            self._starting -= 1
            self._crashloop.did_not_come_up()
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
            self._swapping.forget(container)
            self._scaledown.forget(container)
            crashed = container.state is State.FAILED and not container.told_start
            early = self._closed is None and crashed and container.calls == 0
            stopped = early and self._crashloop.died()
            if stopped:
                refused, self._waiting = list(self._waiting), deque()
            missing = 0 if stopped else self._missing()
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

    # --- scaling down, new code, replacing, closing ----------------------------------------

    def _scale_down(self) -> None:
        window = self.limits.scaledown_window
        if window is None:
            return
        with self._lock:
            alive = self._alive()
            spare = len(alive) - wanted(self.limits, sum(one.running for one in alive))
            leaving = self._scaledown.overdue(self.containers, window, spare)
            self._idle = [slot for slot in self._idle if slot.container not in leaving]
        for container in leaving:
            container.drain(f"it was idle for scaledown_window={window:g} s")
        if leaving:
            self._refill()  # an input may have come in this very moment

    def set_limits(self, *, limits: Limits, timeout: float | None, retries: Retries | None) -> None:
        """Change the bounds; what they ask for happens with the next input or the next look."""
        with self._lock:
            self.limits, self.timeout, self.retries = limits, timeout, retries
            self._scaledown.begin_anew(self.containers, limits.scaledown_window)

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
        self._swapping.swap(swap, self._take_idle)

    def _take_idle(self) -> list[Slot]:
        """Under the lock: every free slot; no input gets one of them until it is offered again."""
        idle, self._idle = self._idle, []
        return idle

    def interrupt_swap(self) -> None:
        """Give up the container that `swap` waits for. In a signal handler."""
        self._swapping.interrupt()

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
