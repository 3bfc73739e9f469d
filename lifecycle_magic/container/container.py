"""One live container, as the kernel sees it: its start, its inputs, its code and its exit.

All of these change the container's state, and requests may arrive at once from any thread.
Therefore they are in one module, under one lock. Its sockets are in `connections`, the ways to end
it in `endings`, what its worker answers to setup and new code in `worker_answers`, the supervisor's
messages in `control`, and the cause of its exit in `exit_cause`.

The container owns its ``exit`` hook; the kernel only requests it. Whatever goes wrong,
`Container.exited` is set in the end, and the state and the report say what happened.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lifecycle_magic.container import registry
from lifecycle_magic.container.connections import Connections
from lifecycle_magic.container.control import (
    ExitStarted,
    KeepTerms,
    PrintedOutput,
    SettleRequest,
    SupervisorMessage,
)
from lifecycle_magic.container.endings import RULES, Ending, EndKind, effective
from lifecycle_magic.container.exit_cause import ExitCause, clear_run_folder
from lifecycle_magic.container.gpus import ContainerGpus
from lifecycle_magic.container.handshake import NOT_CONNECTED, startup_timeout_error
from lifecycle_magic.container.prompt_answers import PromptAnswers
from lifecycle_magic.container.slots import Plan, RunningInput, Slot
from lifecycle_magic.container.worker_answers import REPORT_WAIT_SECONDS, KeptFrames
from lifecycle_magic.engines.base import Engine
from lifecycle_magic.exception import EngineError, StartError
from lifecycle_magic.lifecycle.states import (
    ENDED_STATES,
    WARM_STATES,
    LogLine,
    Notice,
    Publish,
    State,
    StateMachine,
)
from lifecycle_magic.threads.event_loop import EventLoop
from lifecycle_magic.wire.messages import Swap

if TYPE_CHECKING:
    from lifecycle_magic.gpus.device import Gpu
    from lifecycle_magic.gpus.leases import Lease, Leases

_log = logging.getLogger(__name__)

ADOPTED = "adopted"
"""Why a container that a kernel before has started moves through the states of a start."""


class Container:
    """A container, from the request to start it until it has exited.

    ``on_exited`` is called once, on any thread, after the exit. All methods may be called from any
    thread.
    """

    def __init__(
        self,
        plan: Plan,
        engine: Engine,
        event_loop: EventLoop,
        publish: Publish,
        on_exited: Callable[[Container], None],
    ) -> None:
        self.plan = plan
        self.name = plan.launch.name
        self.engine = engine
        self.event_loop = event_loop
        self.id: str | None = None
        self.code: Swap | None = None  # the code that it was last given
        self.calls = 0
        self.running = 0
        self.began = time.time()
        self.cause = ExitCause()
        self.exited = threading.Event()
        self.ending: Ending | None = None  # by which it stopped accepting inputs
        self.reported_start_failure = False  # its enter failed, and the worker reported that
        self.place = ""  # the machine that it is on, once a view has asked for it
        self.pending = ""  # why the engine has not started it yet
        self.is_spare = False  # launched, and not assigned to a class yet
        # it accepts no more inputs; called on any thread
        self.on_draining: Callable[[], None] = lambda: None
        # of a kept container, in place of a launch: has it connect, and returns the engine's id
        self.wake: Callable[[], str] | None = None
        self.keep_terms: KeepTerms | None = None  # how it waits for another kernel
        self._states = StateMachine(self.name, plan.cls, time.time, plan.service)
        self._lock = threading.RLock()
        self._publish = publish
        self._on_exited = on_exited
        self.connections = Connections()
        self.prompt_answers = PromptAnswers()
        self.gpus = ContainerGpus()
        self.kept_frames: KeptFrames | None = None  # of the last exception there
        self._finishing = False
        self._launching = False  # the engine was asked to start it and has not returned its id
        self._is_silent = False  # its exit was awaited for REPORT_WAIT_SECONDS, in vain
        registry.add(self)

    @property
    def state(self) -> State:
        return self._states.state

    @property
    def since(self) -> float:
        """Return when the container entered its current state, in seconds since the epoch."""
        return self._states.history[-1].at if self._states.history else self.began

    @property
    def history(self) -> list[str]:
        """Return the state changes so far, each with its reason, as human-readable lines."""
        return [f"{t.previous.value} → {t.state.value}: {t.why}" for t in self._states.history]

    @property
    def slots(self) -> list[Slot]:
        """Return its slots; none before it has connected."""
        return self.connections.slots

    def _move(self, to: State, why: str = "") -> None:
        """Move to another state and publish the change.

        Not on the path of a call: `occupy` and `vacate` already hold the lock and need no ``why``.
        """
        with self._lock:
            record = self._states.move(to, why)
            if why and to in (State.DRAINING, State.EXITING):
                self.cause.reason = why
        _log.debug(
            "%s of %s: %s → %s%s",
            *(self.name, self.plan.cls, record.previous.value, to.value),
            f" ({why})" if why else "",
        )
        self._publish(record)

    # --- start -----------------------------------------------------------------------------

    def adopt(self, plan: Plan, on_exited: Callable[[Container], None]) -> bool:
        """Assign a class to this spare. Return False if the spare has exited meanwhile."""
        with self._lock:
            if self._finishing or not self.is_connected:
                return False
            self.is_spare = False
            self.connections.begin_start()
            self.plan = dataclasses.replace(plan, launch=self.plan.launch)
            self._on_exited = on_exited
            return True

    @property
    def is_connected(self) -> bool:
        """Return whether the connection to its supervisor is open."""
        return self.connections.control is not None

    def move_alive(self, to: State) -> None:
        """Move to the next state of a start. Raises if the container was killed."""
        with self._lock:
            self.check_not_killed()
            self._move(to, ADOPTED if self.wake is not None else "")

    def become_warm(self) -> bool:
        """Move from entering to idle. Return False if it exits or has to exit."""
        with self._lock:
            entered = self.state is State.ENTERING and self.cause.killed is None
            if entered:
                self._move(State.IDLE, "warm")
            return entered

    def connect(self, deadline: float) -> None:
        """Launch the container and wait for its connections until ``deadline``, of
        `time.monotonic`.
        """
        self.move_alive(State.STARTING)
        self.connections.connect(self, self._launch, deadline)
        self.pending = ""
        if self._finishing:  # killed meanwhile, before there was anything that closes them
            self.connections.close_all()
            self.check_not_killed()
        self.connections.watch(self, self._on_message, self._on_control_end)

    def hold_gpus(self, leases: Leases, lease: Lease, devices: Sequence[Gpu]) -> None:
        """Hold leased GPUs until the exit. Raises if the container was killed meanwhile."""
        with self._lock:
            self.gpus.set(leases, lease, devices)
            if self._finishing:
                self.gpus.release()
            self.check_not_killed()

    def _launch(self) -> str:
        """Have the engine launch the container and return its id there.

        A kill meanwhile leaves the killing to this method's caller.
        """
        with self._lock:
            self.check_not_killed()
            self._launching = True
        try:
            self.id = self.wake() if self.wake else self.engine.launch(self.plan.launch)
        finally:
            with self._lock:
                self._launching = False
        self.gpus.record_process(self)
        self.check_not_killed()
        return self.id

    def check_not_killed(self) -> None:
        """Raise if the container was killed during its start."""
        if self.cause.is_killed_by(EndKind.STARTUP_TIMEOUT):
            raise startup_timeout_error(self.plan, NOT_CONNECTED, self.pending)
        if self.cause.killed is not None:
            raise StartError(
                f"the container of {self.plan.cls} did not start: {self.cause.kill_reason}"
            )

    def keep(self, terms: KeepTerms | None) -> None:
        """Say how the container waits for another kernel when this one exits; None: it ends."""
        control = self.connections.control
        if control is not None and terms != self.keep_terms:
            self.keep_terms = terms
            if self.id is not None:
                self.engine.keep(self.id, terms is not None)
            control.keep(terms)

    def leave(self) -> None:
        """Leave a container that could not be adopted: it waits for another kernel."""
        with self._lock:
            if self._finishing:
                return
            self._finishing = True
        control = self.connections.control
        if control is not None:
            control.shut_down()  # first: nothing may ask it to exit; the event loop closes it
        for slot in self.slots:
            slot.give_up("it could not be adopted")
        self.connections.freeze()
        self._move(State.FAILED, "it could not be adopted")
        self.connections.close_free_slots()
        self.exited.set()

    # --- inputs ----------------------------------------------------------------------------

    def occupy(self, slot: Slot, input: RunningInput) -> bool:
        """Record that ``input`` runs in ``slot``. Return False if the container accepts no more
        inputs.
        """
        with self._lock:
            if self._states.state not in WARM_STATES:
                return False
            slot.input = input
            slot.reader = None
            slot.began = time.monotonic()
            if input.counts_as_call:
                self.calls += 1
            self.running += 1
            if self.running == 1:
                self._publish(self._states.move(State.BUSY))
            return True

    def vacate(self, slot: Slot) -> bool:
        """Record that the slot's input has ended. Return whether the slot accepts another one."""
        with self._lock:
            slot.input = None
            self.running -= 1
            if self.running == 0 and self._states.state is State.BUSY:
                self._publish(self._states.move(State.IDLE))
            last = self.running == 0 and self._states.state is State.DRAINING
        if last and self.cause.killed is None:
            self._ask_exit()
        return self._states.state in WARM_STATES

    def interrupt(self, call: int, began: float) -> None:
        """Ask the supervisor to interrupt this call's method, which began at ``began``
        (`time.monotonic`).
        """
        control = self.connections.control
        if control is not None:
            control.interrupt(call, began)

    def runs_others(self, slot: Slot) -> bool:
        """Return whether inputs run in other slots than ``slot``."""
        with self._lock:
            return any(one.input is not None for one in self.slots if one is not slot)

    # --- the way out -----------------------------------------------------------------------

    def end(self, ending: Ending, *, wait: bool = False) -> None:
        """End the container as the table in `lifecycle_magic.container.endings` says. Return at
        once.

        With ``wait``, an ending that kills blocks until the engine has done so.
        """
        with self._lock:
            ending = effective(ending, self._states.state, builds=bool(self.plan.build_hook))
            rule = RULES[ending.kind]
            if self._states.state not in rule.states:
                return
            if rule.calls == "die":
                self.cause.killed = self.cause.killed or ending
            elif ending.kind is EndKind.STOP or self.ending is None:
                self.ending = ending
        if rule.calls == "die" and wait:
            self._kill()
            return
        if ending.kind is EndKind.DISMISS:
            self.cause.reason = ending.why
            self._ask_exit()
            return
        self._drain(ending.why)
        if rule.calls == "die":
            threading.Thread(target=self._kill, name=f"{self.name}-kill", daemon=True).start()
        elif rule.calls != "finish":
            self._interrupt_calls(unless_several=rule.calls == "interrupt if alone")

    def _drain(self, why: str) -> None:
        """Accept no new input, and request ``exit`` when the last one has ended."""
        with self._lock:
            if self._states.state not in WARM_STATES:
                return
            self._publish(self._states.move(State.DRAINING, why))
            self.cause.reason = why
            last = self.running == 0
            running = [slot.input for slot in self.slots if slot.input is not None]
        for input in running:
            input.on_draining()
        if last and self.cause.killed is None:
            self._ask_exit()
        self.on_draining()

    def _interrupt_calls(self, *, unless_several: bool) -> None:
        """Interrupt the running calls of a draining container, so that it exits now."""
        with self._lock:
            running = [slot for slot in self.slots if slot.input is not None]
            if self._states.state is not State.DRAINING:
                return
        if unless_several:
            if len(running) <= 1:
                self._ask_exit(at_once=True)
        elif running:
            self._ask_exit(at_once=True)
            for slot in running:
                if slot.input is not None and slot.input.is_half_read:
                    slot.give_up(self.cause.reason)

    def _kill(self) -> None:
        """Kill the container without running ``exit``. Block until the engine has done so."""
        with self._lock:
            # If it is being launched, `start` kills it once there is a container to kill.
            if self._states.state in ENDED_STATES or self._launching:
                return
        if self.id is not None:
            try:
                self.engine.kill(self.id)
            except EngineError:
                pass  # the engine is not available either; the sockets report the exit
        if not self.is_connected:
            self._finish()

    def _ask_exit(self, *, at_once: bool = False) -> None:
        control = self.connections.control
        if control is not None:
            control.exit(self.cause.reason, at_once=at_once)

    # --- what its supervisor says ----------------------------------------------------------

    def _on_message(self, message: SupervisorMessage) -> None:
        if isinstance(message, PrintedOutput):
            self._on_printed(message)
        elif isinstance(message, ExitStarted):
            self._on_exiting(message.why)
        elif isinstance(message, SettleRequest):
            if self.connections.control is not None:
                self.connections.control.settled(message.number)
        else:
            self.cause.report = message

    def _on_printed(self, message: PrintedOutput) -> None:
        cls, service = self.plan.cls, self.plan.service
        self._publish(LogLine(self.name, cls, message.stream, message.text, time.time(), service))
        if not message.shown:
            self.connections.show_in_cell(message.stream, message.text)

    def _on_exiting(self, why: str) -> None:
        if self.state in ENDED_STATES or self.state is State.EXITING:
            return
        was_warm = self.state in WARM_STATES
        self._move(State.EXITING, why)
        if was_warm:
            self.on_draining()
        # a reader that waits for more need not wait until exit has finished
        for slot in self.slots:
            slot.stop_reading()

    def _on_control_end(self) -> None:
        self.connections.control = None
        if self.cause.report is None or self.engine.leaves_behind(self.plan.launch.run_dir):
            # Killed from outside, or the engine died. The engine may take long to answer.
            threading.Thread(target=self._finish, name=f"{self.name}-end", daemon=True).start()
        else:
            self._finish()

    def _finish(self) -> None:
        """Find the cause of the exit, close what is open and notify the owner. Only once."""
        with self._lock:
            if self._finishing:
                return
            self._finishing = True
        run_dir = self.plan.launch.run_dir
        self.cause.find(self.engine, self.id, run_dir)
        self.connections.freeze()
        self.connections.stop_reading()
        if self.id is not None:
            clear_run_folder(self.engine, self.id, run_dir)
            self.engine.discard(self.id)
        self.gpus.release()
        self._move(State.EXITED if self.cause.is_clean(self) else State.FAILED, self.explain_exit())
        try:
            self._on_exited(self)
            self.connections.close_free_slots()
        finally:
            self.exited.set()  # last, because a thread that waits for it may read the history

    # --- reporting -------------------------------------------------------------------------

    def set_pending(self, why: str) -> None:
        """Record why the engine has not started the container yet, empty if it has."""
        self.pending = why
        if why:
            self.publish_warning(f"{self.name} waits: {why}")

    def publish_warning(self, text: str) -> None:
        """Publish a warning, which the card, the panel and the log show."""
        plan = self.plan
        self._publish(Notice(plan.cls, text, time.time(), "warning", plan.service))

    def explain_exit(self) -> str:
        """Return in one sentence why the container has exited."""
        if self.is_connected and self.cause.killed is None and self.cause.report is None:
            return "code in it closed the connection for calls"
        return self.cause.explain(self.plan.memory)

    def wait_for_report(self) -> None:
        """Wait after a lost connection until the cause is known.

        While the container runs its exit, the cause is known already.
        """
        if self.state is not State.EXITING and not self._is_silent:
            self._is_silent = not self.exited.wait(REPORT_WAIT_SECONDS)
