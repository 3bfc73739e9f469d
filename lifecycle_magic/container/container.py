"""One live container, as the kernel sees it: its start, its inputs and its code.

The start and the inputs change the container's state, and requests may arrive at once from any
thread. Therefore they are in one module, under one lock, which `shutdown` takes too. The sockets
are in `connections`, what the worker answers to setup and new code in `worker_answers`, the
supervisor's messages in `control`, and the cause of the exit in `exit_cause`.

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
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.container.exit_cause import ExitCause
from lifecycle_magic.container.gpus import ContainerGpus
from lifecycle_magic.container.handshake import NOT_CONNECTED, startup_timeout_error
from lifecycle_magic.container.prompt_answers import PromptAnswers
from lifecycle_magic.container.shutdown import Shutdown
from lifecycle_magic.container.slots import Plan, RunningInput, Slot
from lifecycle_magic.container.worker_answers import REPORT_WAIT_SECONDS, FramesReference
from lifecycle_magic.engines.base import Engine
from lifecycle_magic.exception import StartError
from lifecycle_magic.lifecycle.states import (
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
    from lifecycle_magic.gpus.leases import GpuLease, GpuLeases

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
        self.lock = threading.RLock()  # held to read the state and then change it
        self._publish = publish
        self.on_exited = on_exited
        self.connections = Connections()
        self.prompt_answers = PromptAnswers()
        self.gpus = ContainerGpus()
        self.kept_frames: FramesReference | None = None  # of the last exception there
        self.is_launching = False  # the engine was asked to start it and has not returned its id
        self._shutdown = Shutdown(self)
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

    def move(self, to: State, why: str = "") -> None:
        """Move to another state and publish the change.

        Not on the path of a call: `occupy` and `vacate` already hold the lock and need no ``why``.
        """
        with self.lock:
            record = self._states.move(to, why)
        _log.debug(
            "%s of %s: %s → %s%s",
            *(self.name, self.plan.cls, record.previous.value, to.value),
            f" ({why})" if why else "",
        )
        self._publish(record)

    # --- start -----------------------------------------------------------------------------

    def adopt(self, plan: Plan, on_exited: Callable[[Container], None]) -> bool:
        """Assign a class to this spare. Return False if the spare has exited meanwhile."""
        with self.lock:
            if self._shutdown.is_over or not self.is_connected:
                return False
            self.is_spare = False
            self.connections.begin_start()
            self.plan = dataclasses.replace(plan, launch=self.plan.launch)
            self.on_exited = on_exited
            return True

    @property
    def is_connected(self) -> bool:
        """Return whether the connection to its supervisor is open."""
        return self.connections.control is not None

    def move_alive(self, to: State) -> None:
        """Move to the next state of a start. Raises if the container was killed."""
        with self.lock:
            self.check_not_killed()
            self.move(to, ADOPTED if self.wake is not None else "")

    def become_warm(self) -> bool:
        """Move from entering to idle. Return False if it exits or has to exit."""
        with self.lock:
            entered = self.state is State.ENTERING and self.cause.killed is None
            if entered:
                self.move(State.IDLE, "warm")
            return entered

    def connect(self, deadline: float) -> None:
        """Launch the container and wait for its connections until ``deadline``, of
        `time.monotonic`.
        """
        self.move_alive(State.STARTING)
        self.connections.connect(self, self._launch, deadline)
        self.pending = ""
        if self._shutdown.is_over:  # killed meanwhile, before there was anything that closes them
            self.connections.close_all()
            self.check_not_killed()
        self.connections.watch(self, self._on_message, self._shutdown.on_disconnected)

    def hold_gpus(self, leases: GpuLeases, lease: GpuLease, devices: Sequence[Gpu]) -> None:
        """Hold leased GPUs until the exit. Raises if the container was killed meanwhile."""
        with self.lock:
            self.gpus.set(leases, lease, devices)
            if self._shutdown.is_over:
                self.gpus.release()
            self.check_not_killed()

    def _launch(self) -> str:
        """Have the engine launch the container and return its id there.

        A kill meanwhile leaves the killing to this method's caller.
        """
        with self.lock:
            self.check_not_killed()
            self.is_launching = True
        try:
            self.id = self.wake() if self.wake else self.engine.launch(self.plan.launch)
        finally:
            with self.lock:
                self.is_launching = False
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
        if not self._shutdown.claim():
            return
        control = self.connections.control
        if control is not None:
            control.shut_down()  # first: nothing may ask it to exit; the event loop closes it
        for slot in self.slots:
            slot.give_up("it could not be adopted")
        self.connections.freeze()
        self.move(State.FAILED, "it could not be adopted")
        self.connections.close_free_slots()
        self.exited.set()

    # --- inputs ----------------------------------------------------------------------------

    def occupy(self, slot: Slot, input: RunningInput) -> bool:
        """Record that ``input`` runs in ``slot``. Return False if the container accepts no more
        inputs.
        """
        with self.lock:
            if self._states.state not in WARM_STATES:
                return False
            slot.input = input
            slot.reader = None
            slot.began = time.monotonic()
            slot.outputs.begin_input()
            if input.counts_as_call:
                self.calls += 1
            self.running += 1
            if self.running == 1:
                self._publish(self._states.move(State.BUSY))
            return True

    def vacate(self, slot: Slot) -> bool:
        """Record that the slot's input has ended. Return whether the slot accepts another one."""
        with self.lock:
            slot.input = None
            self.running -= 1
            if self.running == 0 and self._states.state is State.BUSY:
                self._publish(self._states.move(State.IDLE))
            last = self.running == 0 and self._states.state is State.DRAINING
        if last and self.cause.killed is None:
            self._shutdown.request_exit()
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
        with self.lock:
            return any(one.input is not None for one in self.slots if one is not slot)

    # --- the way out -----------------------------------------------------------------------

    @property
    def ending(self) -> Ending | None:
        """The ending by which it stopped accepting inputs, None before."""
        return self._shutdown.ending

    def end(self, ending: Ending, *, wait: bool = False) -> None:
        """End the container as the table in `lifecycle_magic.container.endings` says. Return at
        once.

        With ``wait``, an ending that kills blocks until the engine has done so.
        """
        self._shutdown.begin(ending, wait=wait)

    # --- what its supervisor says ----------------------------------------------------------

    def _on_message(self, message: SupervisorMessage) -> None:
        if isinstance(message, PrintedOutput):
            self._on_printed(message)
        elif isinstance(message, ExitStarted):
            self._shutdown.on_exit_started(message.why)
        elif isinstance(message, SettleRequest):
            if self.connections.control is not None:
                self.connections.control.confirm_shown(message.number)
        else:
            self.cause.report = message

    def _on_printed(self, message: PrintedOutput) -> None:
        cls, service = self.plan.cls, self.plan.service
        self._publish(LogLine(self.name, cls, message.stream, message.text, time.time(), service))
        if not message.shown:
            self.connections.show_in_cell(message.stream, message.text)

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
