"""The end of one container: from the request to the exit, and what is known of it then.

`endings` has the ways to end a container as a table, and `exit_cause` finds out why it has exited.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from lifecycle_magic.container.endings import RULES, Ending, EndKind, effective
from lifecycle_magic.container.exit_cause import clear_run_folder
from lifecycle_magic.exception import EngineError
from lifecycle_magic.lifecycle.states import ENDED_STATES, WARM_STATES, State

if TYPE_CHECKING:
    from lifecycle_magic.container.container import Container

__all__ = ["Shutdown"]


class Shutdown:
    """The end of ``container``. All methods may be called from any thread.

    ``ending`` is the one by which the container stopped accepting inputs, None before.
    """

    def __init__(self, container: Container) -> None:
        self.ending: Ending | None = None
        self._container = container
        self._is_claimed = False

    @property
    def is_over(self) -> bool:
        """Return whether the container has exited, or was left to the next kernel."""
        return self._is_claimed

    def claim(self) -> bool:
        """Claim to close what is open. Return False if that is done, or another thread does it."""
        with self._container.lock:
            is_first, self._is_claimed = not self._is_claimed, True
        return is_first

    def begin(self, ending: Ending, *, wait: bool = False) -> None:
        """Do what the table says for ``ending``. Return at once.

        With ``wait``, an ending that kills blocks until the engine has done so.
        """
        container = self._container
        with container.lock:
            builds = bool(container.plan.build_hook)
            ending = effective(ending, container.state, builds=builds)
            rule = RULES[ending.kind]
            if container.state not in rule.states:
                return
            if rule.calls == "die":
                container.cause.killed = container.cause.killed or ending
            elif ending.kind is EndKind.STOP or self.ending is None:
                self.ending = ending
        if rule.calls == "die" and wait:
            self.kill()
            return
        if ending.kind is EndKind.DISMISS:
            container.cause.reason = ending.why
            self.request_exit()
            return
        self._drain(ending.why)
        if rule.calls == "die":
            threading.Thread(target=self.kill, name=f"{container.name}-kill", daemon=True).start()
        elif rule.calls != "finish":
            self._interrupt_calls(unless_several=rule.calls == "interrupt if alone")

    def _drain(self, why: str) -> None:
        """Accept no new input, and request ``exit`` when the last one has ended."""
        container = self._container
        with container.lock:
            if container.state not in WARM_STATES:
                return
            container.cause.reason = why
            container.move(State.DRAINING, why)
            last = container.running == 0
            running = [slot.input for slot in container.slots if slot.input is not None]
        for input in running:
            input.on_draining()
        if last and container.cause.killed is None:
            self.request_exit()
        container.on_draining()

    def _interrupt_calls(self, *, unless_several: bool) -> None:
        """Interrupt the running calls of a draining container, so that it exits now."""
        container = self._container
        with container.lock:
            running = [slot for slot in container.slots if slot.input is not None]
            if container.state is not State.DRAINING:
                return
        if unless_several:
            if len(running) <= 1:
                self.request_exit(at_once=True)
        elif running:
            self.request_exit(at_once=True)
            for slot in running:
                if slot.input is not None and slot.input.is_half_read:
                    slot.give_up(container.cause.reason)

    def kill(self) -> None:
        """Kill the container without running ``exit``. Block until the engine has done so."""
        container = self._container
        with container.lock:
            # If it is being launched, `start` kills it once there is a container to kill.
            if container.state in ENDED_STATES or container.is_launching:
                return
        if container.id is not None:
            try:
                container.engine.kill(container.id)
            except EngineError:
                pass  # the engine is not available either; the sockets report the exit
        if not container.is_connected:
            self._finish()

    def request_exit(self, *, at_once: bool = False) -> None:
        """Ask the supervisor to run ``exit``, if it is connected."""
        control = self._container.connections.control
        if control is not None:
            control.exit(self._container.cause.reason, at_once=at_once)

    def on_exit_started(self, why: str) -> None:
        """Record that the supervisor has begun to run ``exit``."""
        container = self._container
        if container.state in ENDED_STATES or container.state is State.EXITING:
            return
        was_warm = container.state in WARM_STATES
        if why:
            container.cause.reason = why
        container.move(State.EXITING, why)
        if was_warm:
            container.on_draining()
        # a reader that waits for more need not wait until exit has finished
        container.connections.stop_reading()

    def on_disconnected(self) -> None:
        """Find out how the container exited: its control connection has ended."""
        container = self._container
        container.connections.control = None
        run_dir = container.plan.launch.run_dir
        if container.cause.report is None or container.engine.leaves_behind(run_dir):
            # Killed from outside, or the engine died. The engine may take long to answer.
            threading.Thread(target=self._finish, name=f"{container.name}-end", daemon=True).start()
        else:
            self._finish()

    def _finish(self) -> None:
        """Find the cause of the exit, close what is open and notify the owner. Only once."""
        container = self._container
        if not self.claim():
            return
        run_dir = container.plan.launch.run_dir
        container.cause.find(container.engine, container.id, run_dir)
        container.connections.freeze()
        container.connections.stop_reading()
        if container.id is not None:
            clear_run_folder(container.engine, container.id, run_dir)
            container.engine.discard(container.id)
        container.gpus.release()
        is_clean = container.cause.is_clean(container)
        container.move(State.EXITED if is_clean else State.FAILED, container.explain_exit())
        try:
            container.on_exited(container)
            container.connections.close_free_slots()
        finally:
            container.exited.set()  # last: a thread that waits for it may read the history
