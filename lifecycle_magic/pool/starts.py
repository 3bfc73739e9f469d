"""The starts of a pool's containers: when one is needed, and what a failed one means.

Each start runs on a thread of its own. If it fails, the waiting claims get its error, unless other
containers are alive.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from lifecycle_magic.container.container import Container
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.container.gpus import NotNeeded
from lifecycle_magic.container.start import start
from lifecycle_magic.errors.remote import alike
from lifecycle_magic.exception import BuildError, InvalidError, StartError
from lifecycle_magic.host import process_limit
from lifecycle_magic.lifecycle.states import WARM_STATES, State
from lifecycle_magic.pool.claim import Claim
from lifecycle_magic.pool.crash_loop import MAX_CRASHES, CrashLoop
from lifecycle_magic.pool.pending_start import PendingStart, wait_for
from lifecycle_magic.pool.printing import show
from lifecycle_magic.pool.sizing import wanted
from lifecycle_magic.pool.state import PoolState

__all__ = ["Make", "Starts", "refuse"]

Make = Callable[[], Container]
"""Returns a new, unstarted container of the class's current version and code."""


class Starts:
    """The starts of the containers of the pool with this ``state``.

    ``make`` makes a container, and ``offer`` gives the slots of a started one to waiting claims.
    """

    def __init__(self, state: PoolState, make: Make, offer: Callable[[Container], None]) -> None:
        self._state = state
        self._make = make
        self._offer = offer
        self.crash_loop = CrashLoop()

    # --- how many are needed ---------------------------------------------------------------

    def reserve(self) -> int:
        """Return how many containers to start for the waiting claims, and count them as starting.

        Under the pool's lock.
        """
        state = self._state
        if state.closed is not None:
            return 0
        alive, waiting = state.alive(), len(state.waiting)
        if not self.crash_loop.may_start(len(alive), waiting):
            return 0
        self.crash_loop.resume()
        running = sum([container.running for container in alive])
        there = len(alive) + state.starting
        count = max(0, wanted(state.limits, waiting + running) - there)
        state.starting += count
        return count

    def refill(self) -> None:
        """Start another container for the waiting claims, as one accepts no more inputs."""
        with self._state.lock:
            missing = self.reserve()
        self.start(missing)

    def warm(self) -> None:
        """Start a container if none is warm or starting, and wait until it is ready.

        Also start the other ``min_containers``, without waiting for them. Raises the error of a
        failed start.
        """
        state = self._state

        def start_first(pending: PendingStart) -> None:
            with state.lock:
                if state.starting or any(c.state in WARM_STATES for c in state.containers):
                    return
                count = max(state.limits.least, 1)
                state.starting += count
            self.start(count - 1)
            error = self._start_and_offer(pending)
            if error is not None:
                raise error

        wait_for(start_first)

    # --- a start ---------------------------------------------------------------------------

    def start(self, count: int) -> None:
        """Start ``count`` containers that are counted as starting already. Return at once."""
        for _ in range(count):
            thread = threading.Thread(
                target=self._start_and_offer, name=f"{self._state.name}-start", daemon=True
            )
            try:
                thread.start()
            # a limit on threads: the waiting claims would wait forever
            except RuntimeError as error:
                explained = process_limit.explain(str(error)) or str(error)
                self._on_failed(StartError(f"{self._state.name}: {explained}"))

    def _start_and_offer(self, pending: PendingStart | None = None) -> BaseException | None:
        """Start one container and give its slots to the waiting claims. Return the error if it
        fails.

        ``pending`` belongs to a caller that waits for this container, if there is one.
        """
        try:
            container = self.start_one(pending)
        except BaseException as error:
            return error
        self._offer(container)
        return None

    def start_one(
        self,
        pending: PendingStart | None = None,
        on_gpu_shortage: Callable[[], bool] | None = None,
    ) -> Container:
        """Return a ready container whose slots are not offered yet. It is counted as starting
        already.

        Raises the error of a failed start.
        """
        state = self._state
        try:
            state.check_open()
            container = self._make()
            container.on_draining = self.refill
            if on_gpu_shortage is not None:
                container.gpus.on_shortage = on_gpu_shortage
            container.gpus.is_wanted = lambda: pending is not None or self._needs_another()
            if pending is not None:
                pending.set_container(container)
            with state.lock:
                state.containers.append(container)
                first = state.waiting[0] if state.waiting else None
                closed = state.closed
            if closed is not None:
                # Nothing exists of it but a folder.
                container.end(Ending(EndKind.KILL, closed), wait=True)
                raise StartError(closed)
            start(container, first.show_from_thread if first is not None else show)
        except BaseException as caught:
            error = caught if pending is None else pending.cause_of(caught)
            self._on_failed(error)
            if error is caught:
                raise
            raise error from None
        with state.lock:
            state.starting -= 1
            self.crash_loop.record_start()
        return container

    def _needs_another(self) -> bool:
        """Return whether the pool needs more containers than take inputs now."""
        state = self._state
        with state.lock:
            alive = state.alive()
            inputs = len(state.waiting) + sum(one.running for one in alive)
            return state.closed is None and wanted(state.limits, inputs) > len(alive)

    def _on_failed(self, error: BaseException) -> None:
        """Report a failed start to all waiting claims; the next call starts afresh.

        If other containers are alive, the claims continue to wait for those. They also continue to
        wait if a caller that gave up has interrupted the start.
        """
        state = self._state
        if not isinstance(error, Exception):
            with state.lock:
                state.starting -= 1
                missing = self.reserve() if state.waiting else 0
            self.start(missing)
            return
        if isinstance(error, NotNeeded):
            with state.lock:
                state.starting -= 1
            return
        with state.lock:
            state.starting -= 1
            self.crash_loop.record_failed_start()
            alive = len(state.alive())
            waiting = list(state.waiting)
            if not alive:
                state.waiting.clear()
        if not alive:
            refuse(state, waiting, error)
        elif waiting:
            text = f"{state.name}: another container did not start, {alive} continue: {error}\n"
            waiting[0].show_from_thread("stderr", text)
        if not waiting and not isinstance(error, (BuildError, InvalidError)):
            self.refill()  # to reach min_containers

    # --- an exit ---------------------------------------------------------------------------

    def after_exit(self, container: Container) -> Callable[[], None]:
        """Record the exit of a container. Return what to do about it without the pool's lock.

        Under the pool's lock. Another container is started if one is needed, unless too many have
        died.
        """
        state = self._state
        crashed = container.state is State.FAILED and not container.reported_start_failure
        early = state.closed is None and crashed and container.calls == 0
        if not (early and self.crash_loop.record_crash()):
            missing = self.reserve()
            return lambda: self.start(missing)
        refused = state.clear_waiting()

        def stop() -> None:
            why = (
                f"{MAX_CRASHES} containers of {state.name} in a row died before they answered a "
                f"call, so no more are started. The last one: {container.explain_exit()}"
            )
            container.publish_warning(why)
            refuse(state, refused, StartError(why))

        return stop


def refuse(state: PoolState, claims: Sequence[Claim], error: BaseException) -> None:
    """Fail claims that are no longer in the queue, each with an exception of its own."""
    for index, claim in enumerate(claims):
        own = error if index == 0 else alike(error)
        if not claim.blocks_thread:
            claim.refused(own)
        else:
            with state.lock:
                claim.refused(own)
