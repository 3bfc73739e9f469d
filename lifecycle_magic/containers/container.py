"""One live container, seen from the kernel: its start, its inputs, its code, its end.

All of these change its state, and may come at once from any thread; so they are in one place, under
one lock. How it dials home is in `arrival`, what its supervisor says in `control`, how its end is
told in `lifecycle_magic.report`.

The container owns its exit; this side only asks for it. Whatever goes wrong on the way ends in
`Container.gone` being set, with the state and the report telling how.
"""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

from lifecycle_magic.containers.arrival import Arrival, late
from lifecycle_magic.containers.control import Control, Exiting, Printed, Told
from lifecycle_magic.containers.idle_memory import IdleMemory
from lifecycle_magic.containers.slots import Plan, Slot, Tenant
from lifecycle_magic.engines.base import Ended, Engine
from lifecycle_magic.exception import ContainerDied, EngineError, StartError, WireError
from lifecycle_magic.failure import rebuild
from lifecycle_magic.monitor import Monitor
from lifecycle_magic.report import Report, obituary
from lifecycle_magic.state import COMING, GONE, WARM, Life, LogLine, Notice, Publish, State
from lifecycle_magic.wire.begun import Begun
from lifecycle_magic.wire.frames import OF_SWAP, Frame, Kind
from lifecycle_magic.wire.messages import Swap, failure
from lifecycle_magic.wire.pickling import dumps, loads
from lifecycle_magic.wire.turns import Turns

LAST_WORDS = 10.0
"""Seconds to wait for a supervisor's report once its worker's socket has closed."""


class Container:
    """A container from the order to start it until it is gone.

    ``on_gone`` runs once, on any thread, when it is. All methods may be called from any thread.
    """

    def __init__(
        self,
        plan: Plan,
        engine: Engine,
        monitor: Monitor,
        publish: Publish,
        on_gone: Callable[[Container], None],
    ) -> None:
        self.plan = plan
        self.name = plan.launch.name
        self.engine = engine
        self.id: str | None = None
        self.slots: list[Slot] = []
        self.code: Swap | None = None  # what `swap` gave it last
        self.calls = 0
        self.running = 0
        self.begun: Begun | None = None  # what its worker began last
        self.began = time.time()
        self.report: Report | None = None
        self.gone = threading.Event()
        self.why = ""  # it is going
        self.killed = ""  # why we killed it, if we did
        self.told_start = False  # its enter did not end well, and it said so
        self.is_spare = False  # launched, and without a class yet
        self.on_leaving: Callable[[], None] | None = None  # it takes no more inputs, on any thread
        self._life = Life(self.name, plan.cls, time.time, plan.service)
        self._lock = threading.RLock()
        self._monitor = monitor
        self._publish = publish
        self._on_gone = on_gone
        self._control: Control | None = None
        self._sockets: list[socket.socket] = []  # all of them, from the listener on
        self._settling = False
        self._ended: Ended | None = None  # for the engine, where the report is silent
        self._launching = False  # the engine was asked, and has not said its id
        self._late = False  # killed because its start took longer than it may
        self._started = False  # until then, `start` reads from the slots
        _every.add(self)

    @property
    def state(self) -> State:
        return self._life.state

    @property
    def since(self) -> float:
        """When it came into its state, in seconds since the epoch."""
        moves = self._life.history
        return moves[-1].at if moves else self.began

    @property
    def history(self) -> list[str]:
        """Its moves so far, each with why, for people."""
        return [f"{t.previous.value} → {t.state.value}: {t.why}" for t in self._life.history]

    def _move(self, to: State, why: str = "") -> None:
        """Not on the way of a call: `occupy` and `vacate` have the lock and need no ``why``."""
        with self._lock:
            record = self._life.move(to, why)
            if why and to not in WARM and to not in GONE:
                self.why = why
        self._publish(record)

    # --- start -----------------------------------------------------------------------------

    def start(self, show: Callable[[str, str], None]) -> None:
        """Launch, shake hands, enter. Output of ``enter`` goes to ``show(stream, text)``.

        Raises the exception that ``enter`` raised, or `StartError` with the container's last words.
        Whatever it raises, the container is on its way out.
        """
        deadline = time.monotonic() + self.plan.startup_timeout
        overdue = self._monitor.later(self.plan.startup_timeout, self._on_late)
        try:
            if self._control is None:
                self._connect(deadline)
            with self._lock:
                self._check_wanted()
                self._move(State.ENTERING)
            self._enter(show)
            self._settle_in()
        except BaseException as error:
            self.kill(f"it did not start: {error}")
            raise
        finally:
            overdue.cancel()
            self._leave_slots()

    def _on_late(self) -> None:
        """On the monitor's thread: its start takes longer than it may."""
        self._late = not self.killed  # else it is that which ended the start
        self.abandon(f"startup_timeout of {self.plan.startup_timeout:g} s")

    def connect(self) -> None:
        """The first half of `start`: launch and shake hands, and wait for a plan as a spare."""
        self.is_spare = True
        try:
            self._connect(time.monotonic() + self.plan.startup_timeout)
        except BaseException as error:
            self.kill(f"it did not start: {error}")
            raise
        self._leave_slots()

    def adopt(self, plan: Plan, on_gone: Callable[[Container], None]) -> bool:
        """A spare gets the class it is for; False if it went in the meantime."""
        with self._lock:
            if self._settling or self._control is None:
                return False
            self.is_spare = self._started = False
            self.plan = dataclasses.replace(plan, launch=self.plan.launch)
            self._on_gone = on_gone
            return True

    def dismiss(self) -> None:
        """A spare is not needed. It has nothing to exit from."""
        self.why = "it was a spare that nobody needed"
        self._ask_exit()

    def _settle_in(self) -> None:
        with self._lock:
            # Else it went, or was ended, in this very moment.
            entered = self.state is State.ENTERING and not self.killed
            if entered:
                self._move(State.IDLE, "warm")
        if not entered:
            self.gone.wait(self.plan.grace + LAST_WORDS)
            raise StartError(
                f"the container of {self.plan.cls} went as soon as it was up: {self.obituary()}"
            )

    def _connect(self, deadline: float) -> None:
        with self._lock:
            self._check_wanted()
            self._move(State.STARTING)
        with Arrival(self.plan, self.engine, self._sockets) as arrival:
            self.begun = arrival.begun
            control, data = arrival.await_all(self._launch(), deadline, self._check_wanted)
        IdleMemory(data, self._monitor, lambda: self.state not in GONE).watch()
        self.slots = [
            Slot(self, channel, Turns(path) if path else None)
            for channel, path in zip(data, arrival.turns, strict=True)
        ]
        self._control = Control(control, self._monitor, self._on_told, self._on_control_end)
        self._control.watch()

    def _launch(self) -> str:
        """Have the engine launch it; its id there. Who kills it meanwhile leaves that to this."""
        with self._lock:
            self._check_wanted()
            self._launching = True
        try:
            self.id = self.engine.launch(self.plan.launch)
        finally:
            with self._lock:
                self._launching = False
        self._check_wanted()
        return self.id

    def _check_wanted(self) -> None:
        """Raise if it was killed while it came up."""
        if self._late:
            raise late(self.plan, "it did not dial home")
        if self.killed:
            raise StartError(f"the container of {self.plan.cls} did not start: {self.killed}")

    def _enter(self, show: Callable[[str, str], None]) -> None:
        slot = self.slots[0]
        try:
            slot.channel.send(Kind.SETUP, *dumps(self.plan.setup))
        except WireError:
            raise  # it is too large
        except OSError:
            pass  # it is gone already; reading says so
        try:
            frame = slot.answer(show)
        except WireError as error:
            raise self.broke(str(error)) from None
        if frame is None:
            self.gone.wait(LAST_WORDS)
            if self._late:
                raise late(self.plan, "enter did not end")
            raise StartError(f"the container of {self.plan.cls} died in enter: {self.obituary()}")
        if frame.kind == Kind.READY:
            return
        if frame.kind == Kind.FAILURE:
            self.told_start = True
            raise self.raised_by(frame, "enter", stays=False)
        if frame.kind in (Kind.CANCELLED, Kind.SKIPPED):
            self.told_start = True
            raise StartError(f"enter of {self.plan.cls} was interrupted")
        raise self.broke(f"a frame of kind {frame.kind} instead of an answer of enter")

    # --- inputs ----------------------------------------------------------------------------

    def occupy(self, slot: Slot, input: Tenant) -> bool:
        """Note that ``input`` runs in ``slot``; False when the container takes no more inputs."""
        with self._lock:
            if self._life.state not in WARM:
                return False
            slot.input = input
            slot.reader = None
            slot.began = time.monotonic()
            if input.counts:
                self.calls += 1
            self.running += 1
            if self.running == 1:
                self._publish(self._life.move(State.BUSY))
            return True

    def vacate(self, slot: Slot) -> bool:
        """The slot's input is over; whether the slot takes another."""
        with self._lock:
            slot.input = None
            self.running -= 1
            if self.running == 0 and self._life.state is State.BUSY:
                self._publish(self._life.move(State.IDLE))
            last = self.running == 0 and self._life.state is State.DRAINING
        if last and not self.killed:
            self._ask_exit()
        return self._life.state in WARM

    def may_have_begun(self, slot: Slot, call: int) -> bool:
        """Whether the worker began the input of this id, the last one sent to ``slot`` and not
        answered, as far as that can be known when it is gone.
        """
        if self.state is State.EXITING:
            return False  # all that began is over and answered
        if self.report is not None:
            if self.report.in_order:
                return False  # it would have answered
            if self.report.oom:
                return True  # perhaps over the arguments; no other container has more memory
        return self.begun is None or self.begun.has(self.slots.index(slot), call)

    def interrupt(self, call: int) -> None:
        """Have the running method of this call interrupted."""
        control = self._control
        if control is not None:
            control.interrupt(call)

    # --- its code --------------------------------------------------------------------------

    def swap(self, swap: Swap, slot: Slot) -> None:
        """Put new code under the live instance, by way of a slot that is free.

        Raises the exception that loading the new class raised; the old code then stays. If there
        is no answer within ``startup_timeout`` the container goes, and that is `ContainerDied`.
        """
        bound = self.plan.startup_timeout
        overdue = self._monitor.later(
            bound, lambda: self.abandon(f"it did not load its new code within {bound:g} s")
        )
        try:
            slot.channel.send(Kind.SWAP, *dumps(swap))
            frame = slot.answer()
        except OSError:
            frame = None
        except BaseException:
            # Whoever read there next would get the answer to this.
            self.abandon("the change of its code was interrupted")
            raise
        finally:
            overdue.cancel()
        if frame is not None and frame.tag != OF_SWAP:
            self.abandon("its connection broke: an answer that is none to its new code")
            frame = None
        if frame is None:
            self.hung_up()
            raise self.died()
        if frame.kind == Kind.FAILURE:
            raise rebuild(loads(frame.payload), self.plan.cls)
        self.code = swap

    # --- the way out -----------------------------------------------------------------------

    def drain(self, why: str) -> None:
        """Take no new input, let the running ones finish, run ``exit``. Returns at once."""
        with self._lock:
            if self._life.state not in WARM:
                return
            self._publish(self._life.move(State.DRAINING, why))
            self.why = why
            last = self.running == 0
            running = [slot.input for slot in self.slots if slot.input is not None]
        for input in running:
            input.going()
        if last and not self.killed:
            self._ask_exit()
        self._leaves()

    def end(self, why: str) -> None:
        """`drain`; one that is not warm yet has nothing to exit from, nor has one that runs a build
        hook, and is killed. Returns at once.
        """
        with self._lock:
            nothing_to_lose = self._life.state in COMING or bool(self.plan.build_hook)
            if nothing_to_lose:
                when = "before its hook was through" if self.plan.build_hook else "before it was up"
                self.killed = self.killed or f"it was ended {when}: {why}"
        if nothing_to_lose:
            self.abandon(self.killed)
        else:
            self.drain(why)

    def hung_up(self) -> None:
        """One of its data connections ended. It is going, or of no more use; how it went is not
        known yet, but no other input may begin there.
        """
        self.drain("its connection ended")

    def kill(self, why: str) -> None:
        """End it now, without ``exit``. Blocks for as long as the engine needs."""
        with self._lock:
            if self._life.state in GONE:
                return
            self.killed = self.killed or why
            if self._launching:
                return  # `start` does it, once there is something to kill
        if self.id is not None:
            try:
                self.engine.kill(self.id)
            except EngineError:
                pass  # the engine is gone too; the sockets tell
        if self._control is None:
            self._settle()

    def abandon(self, why: str) -> None:
        """`kill`, without waiting for the engine. From now on it takes no input."""
        self.killed = self.killed or why
        self.drain(why)
        threading.Thread(
            target=self.kill, args=(why,), name=f"{self.name}-kill", daemon=True
        ).start()

    def _ask_exit(self) -> None:
        control = self._control
        if control is not None:
            control.exit(self.why)

    def _leaves(self) -> None:
        if self.on_leaving is not None:
            self.on_leaving()

    # --- what its supervisor says ----------------------------------------------------------

    def _on_told(self, told: Told) -> None:
        if isinstance(told, Printed):
            self._on_printed(told)
        elif isinstance(told, Exiting):
            self._on_exiting(told.why)
        else:
            self.report = told

    def _on_printed(self, told: Printed) -> None:
        cls, service = self.plan.cls, self.plan.service
        self._publish(LogLine(self.name, cls, told.stream, told.text, time.time(), service))
        if not told.shown:
            self._show_in_cell(told.stream, told.text)

    def _show_in_cell(self, stream: str, text: str) -> None:
        """Output that bypassed ``sys.stdout``: into the cell of the call that runs now."""
        for slot in self.slots:
            input = slot.input
            if input is not None:
                input.show_from_elsewhere(stream, text)
                return

    def _on_exiting(self, why: str) -> None:
        if self.state in GONE or self.state is State.EXITING:
            return
        was_warm = self.state in WARM
        self._move(State.EXITING, why)
        if was_warm:
            self._leaves()
        for slot in self.slots:  # who waits there for more need not wait until exit is over
            slot.read_no_more()

    def _on_control_end(self) -> None:
        self._control = None
        if self.report is None:
            # Killed from outside, or the engine died. Asking the engine may take its time.
            threading.Thread(target=self._settle, name=f"{self.name}-end", daemon=True).start()
        else:
            self._settle()

    # --- gone ------------------------------------------------------------------------------

    def _settle(self) -> None:
        """It is gone. Find out how, close what is open, tell everybody; once."""
        with self._lock:
            if self._settling:
                return
            self._settling = True
        self._find_out_how()
        self._move(State.EXITED if self._went_well() else State.FAILED, self.obituary())
        try:
            self._on_gone(self)
            self._close_free_slots()
        finally:
            self.gone.set()  # last: whoever waits for it may look at the history

    def _find_out_how(self) -> None:
        if self.report is None:  # it may not have come through
            self.report = Report.left_in(self.plan.launch.run_dir)
        if self.report is not None or self.id is None:
            return
        try:
            self._ended = self.engine.ended(self.id)
            self.engine.kill(self.id)  # killed from outside, it may not clear up after itself
        except EngineError as error:
            self.killed = self.killed or f"the engine does not answer any more: {error}"

    def _went_well(self) -> bool:
        """Whether all of its hooks ran: those of a spare are none."""
        report = self.report
        if report is None or not report.in_order:
            return False
        leaving = self.state in (State.DRAINING, State.EXITING)
        return self.is_spare or (report.entered and leaving)

    def _leave_slots(self) -> None:
        """Nothing of the start reads from its slots any more."""
        self._started = True
        if self.state in GONE:
            self._close_free_slots()

    def _close_free_slots(self) -> None:
        """It is gone: close the sockets that nobody reads. A reader finds the end of its own
        and closes it.
        """
        if not self._started:
            return
        for slot in self.slots:
            if slot.input is None:
                slot.close()

    def close_in_fork(self) -> None:
        """In a forked child: let go of the sockets that tell the container of the kernel's life."""
        for sock in self._sockets:
            sock.close()

    # --- what is told of it ----------------------------------------------------------------

    def notice(self, text: str) -> None:
        """Warn whoever looks at the card, the panel or the log."""
        self._publish(Notice(self.plan.cls, text, time.time(), "warning"))

    def obituary(self) -> str:
        """Why it is gone, in one sentence."""
        return obituary(
            self.report,
            self._ended,
            killed=self.killed,
            leaving=self.why,
            memory_limit=self.plan.memory,
        )

    def wait_for_last_words(self) -> None:
        """A connection ended: wait until it is known why. While it runs its exit, it is."""
        if self.state is not State.EXITING:
            self.gone.wait(LAST_WORDS)

    def died(self, method: str = "") -> ContainerDied:
        """The error for an input that was running when it went."""
        self.wait_for_last_words()
        tail = self.report.tail if self.report is not None else ""
        last = f"\nIts last lines:\n{tail}" if tail else ""
        where = f"{self.plan.cls}.{method}" if method else self.plan.cls
        return ContainerDied(
            f"the container of {where} went while the call was running: {self.obituary()}{last}"
        )

    def broke(self, what: str) -> WireError:
        """The error for something that its worker never sends. Where the next frame begins, or to
        which input it belongs, is not known then, so the container is replaced.
        """
        self.abandon(f"its connection broke: {what}")
        return WireError(
            f"the container of {self.plan.cls} sent {what}, and is replaced. Does code in it write "
            "to descriptors that it did not open?"
        )

    def raised_by(self, frame: Frame, method: str, *, stays: bool = True) -> BaseException:
        """The exception in a FAILURE frame; whether the container ``stays`` is a part of some."""
        try:
            found = failure(frame.payload)
        except WireError as error:
            return self.broke(str(error))
        return rebuild(found, f"{self.plan.cls}.{method}", stays=stays)


_every: weakref.WeakSet[Container] = weakref.WeakSet()


def running_in(folder: Path) -> list[Container]:
    """Those with a run folder in ``folder`` that were launched and are not gone."""
    return [
        one
        for one in list(_every)
        if one.plan.launch.run_dir.parent == folder and one.id is not None and not one.gone.is_set()
    ]


def close_in_fork() -> None:
    """In a forked child: `Container.close_in_fork` for every container that this process had."""
    for container in list(_every):
        container.close_in_fork()
