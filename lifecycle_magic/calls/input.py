"""An input: one call on its way to a container, wherever it waits and whatever reads its reply.

An input knows its arguments as bytes, its slot, the number of interrupts and attempts, and which
error to raise when it does not return a value.
"""

from __future__ import annotations

import contextvars
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from lifecycle_magic.calls.prompts import refuse
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.container.slots import Slot
from lifecycle_magic.decorators.classes import title
from lifecycle_magic.exception import (
    ContainerDied,
    Error,
    InputCancelled,
    MethodTimeout,
    RemoteError,
)
from lifecycle_magic.pool.claim import BlockingClaim, Claim
from lifecycle_magic.pool.deadlocks import Deadlocks
from lifecycle_magic.pool.pool import CallStats
from lifecycle_magic.pool.printing import show
from lifecycle_magic.spec.retries import Retries
from lifecycle_magic.threads.event_loop import EventLoop, Timer
from lifecycle_magic.wire.frames import Kind
from lifecycle_magic.wire.pickling import copy_buffers, dumps, prepare_args, prepare_kwargs
from lifecycle_magic.wire.unpicklable import arguments_error

if TYPE_CHECKING:
    from lifecycle_magic.calls.prompts import Prompt, PromptClock

INTERRUPT_GRACE_SECONDS = 5.0
"""Seconds that an interrupted method has to stop before its container is replaced."""

SECOND_INTERRUPT_SECONDS = 3.0
"""Seconds until a second interrupt, which interrupts a coroutine that ignored its cancellation like
a function.
"""

LEAST_EXTENSION_SECONDS = 0.2
"""Seconds by which a prompt that is open extends the ``timeout`` of its call at least."""

_ids = itertools.count(1)


class InputPool(Protocol):
    """The part of a pool that its inputs use: see `lifecycle_magic.pool.pool.Pool`."""

    name: str
    event_loop: EventLoop
    timeout: float | None
    retries: Retries | None
    stats: CallStats
    deadlocks: Deadlocks

    def lease(self, claim: BlockingClaim) -> Slot: ...
    def submit(self, claim: Claim) -> None: ...
    def withdraw(self, claim: Claim) -> bool: ...
    def release(self, slot: Slot) -> None: ...


class Input:
    """One call: what to send, and which slot it is in.

    Raises `SerializationError`, which names the argument, if an argument cannot be pickled. Without
    ``args``, a subclass sets what to send itself.
    """

    __slots__ = (
        "attempts",
        "buffers",
        "context",
        "error",
        "gate",
        "id",
        "interrupts",
        "lost_starts",
        "method",
        "payload",
        "pool",
        "prompt_clock",
        "slot",
        "timed_out",
        "unsent",
    )

    kind = Kind.CALL
    # Whether to copy large arguments; None: only if they may be sent again.
    copies_buffers: bool | None = None
    blocks_thread = True  # a thread waits for its slot
    counts_as_call = True  # as one call of the pool and of its container
    displaces_maps = True  # a map, which holds slots for many inputs, releases one for it

    def __init__(
        self, pool: InputPool, method: str, args: tuple[Any, ...] | None, kwargs: dict[str, Any]
    ) -> None:
        self.id = next(_ids)
        self.pool = pool
        self.method = method
        self.slot: Slot | None = None
        self.error: BaseException | None = None
        self.interrupts = 0  # by the user
        self.timed_out = False
        self.unsent = False  # the connection had ended before it was sent
        self.lost_starts = 0  # times that its container exited before it began
        self.attempts = 0  # failed attempts
        self.gate: threading.Lock | None = None
        self.prompt_clock: PromptClock | None = None  # once it has asked the user
        if args is None:
            return
        self.context = contextvars.copy_context()
        try:
            self.payload, self.buffers = dumps(
                (self.id, method, prepare_args(args), prepare_kwargs(kwargs))
            )
        except Exception as error:
            raise arguments_error(title(pool, method), args, kwargs, error) from None
        if self.buffers and (
            self.copies_buffers or (self.copies_buffers is None and pool.retries is not None)
        ):
            # These are the caller's own arrays, which it may change before they are sent.
            self.buffers = copy_buffers(self.buffers)

    # --- the pool's side -------------------------------------------------------------------

    def granted(self, slot: Slot) -> None:
        """Assign a slot to this waiting input. On any thread, under the pool's lock."""
        self.slot = slot
        self.open_gate()

    def refused(self, error: BaseException) -> None:
        """Fail this waiting input, because no container starts."""
        self.error = error
        self.open_gate()

    def close_gate(self) -> None:
        """Let `wait` block. Raises `InputCancelled` if the user has interrupted this input."""
        gate = self.gate = threading.Lock()
        gate.acquire()
        if self.interrupts:  # they found no gate to open
            raise self.not_started_error()

    def wait(self) -> None:
        """Block this thread until `open_gate`."""
        assert self.gate is not None
        self.gate.acquire()

    def open_gate(self) -> None:
        """Let the waiting thread continue. On any thread, also in a signal handler on the main
        thread.
        """
        try:
            if self.gate is not None:
                self.gate.release()
        except RuntimeError:
            pass  # another thread has just opened it

    def on_sigint(self) -> None:
        """Count an interrupt and request it. On the main thread between any two bytecodes: takes no
        lock.
        """
        self.interrupts += 1
        if self.slot is not None:
            times = self.interrupts
            self.pool.event_loop.call_soon(lambda: interrupt(self, again=times > 1))
        else:
            self.open_gate()

    def show_from_thread(self, stream: str, text: str) -> None:
        """Print in the cell that made this call, from another thread."""
        # A context cannot be entered twice, and the caller's own thread may be in it.
        self.context.copy().run(show, stream, text)

    def ask(self, slot: Slot, prompt: Prompt) -> None:
        """Answer a prompt of the method in ``slot``. On the thread that has read it.

        Most inputs refuse: no cell or terminal waits for them.
        """
        refuse(slot, prompt)

    def interrupt_at_prompt(self) -> None:
        """Interrupt the method, because the user has interrupted its prompt."""
        if not self.interrupts:  # otherwise the handler of the signal has done so
            self.on_sigint()

    def on_caller_blocking(self, thread: int) -> None:
        """React to a thread that is about to block.

        If that thread's event loop reads the reply, another one takes over.
        """

    @property
    def is_half_read(self) -> bool:
        """Return whether this input produces results that no code reads at the moment."""
        return False

    @property
    def started(self) -> float:
        """Return the time at which its slot got this input, of `time.monotonic`."""
        slot = self.slot
        return slot.began if slot is not None else time.monotonic()

    def on_draining(self) -> None:
        """React to the draining of its container, which exits when this input has ended. On any
        thread.
        """

    # --- how it can fail -------------------------------------------------------------------

    @property
    def where(self) -> str:
        return title(self.pool, self.method)

    def not_started_error(self) -> InputCancelled:
        return InputCancelled(f"{self.where} was interrupted before it began")

    def begin_attempt(self) -> Timer | None:
        """Begin an attempt, and start the timer of its ``timeout``."""
        self.timed_out = self.unsent = False
        timeout = self.pool.timeout
        return (
            self.pool.event_loop.call_later(timeout, self.expire) if timeout is not None else None
        )

    def running_slot(self) -> Slot | None:
        """Return the slot in which this input runs right now. From any thread."""
        slot = self.slot
        return slot if slot is not None and slot.input is self else None

    def has_unread_answer(self) -> bool:
        """Return whether this input may have an answer that no code has read yet."""
        return False

    def expire(self) -> None:
        """Interrupt an attempt that has reached its ``timeout``. On the event loop's thread.

        The time that it has waited for the user does not count.
        """
        if self.running_slot() is None:
            return
        if self.prompt_clock is not None and (seconds := self.prompt_clock.take()):
            attempt = self.attempts
            self.pool.event_loop.call_later(
                max(seconds, LEAST_EXTENSION_SECONDS),
                lambda: self.expire() if self.attempts == attempt else None,
            )
            return
        self.timed_out = True
        interrupt(self)

    def count_failure(self, error: BaseException) -> float | None:
        """Count a failed attempt, and return the seconds before the next one.

        Return None, without counting, if there is no next attempt after ``error``.
        """
        retries = self.pool.retries
        if retries is None or self.interrupts or self.attempts >= retries.max_retries:
            return None
        of_the_method = not isinstance(error, Error) or isinstance(
            error, (ContainerDied, MethodTimeout, RemoteError)
        )
        if not of_the_method or not isinstance(error, Exception):
            return None
        self.attempts += 1
        return retries.delay(self.attempts)

    def pause(self, seconds: float) -> None:
        """Wait between two attempts. An interrupt ends the wait."""
        gate = self.gate = threading.Lock()
        gate.acquire()
        gate.acquire(timeout=seconds)


def interrupt(input: Input, again: bool = False) -> None:
    """Interrupt the method of ``input``, and replace its container if the method does not stop.

    On the event loop's thread. With ``again``, the timers of an earlier interrupt still run.
    """
    slot = input.running_slot()
    if slot is None:
        return
    container, attempt = slot.container, input.attempts

    def runs_on() -> bool:
        # The next attempt may be in the same slot, and must not be interrupted.
        return input.running_slot() is slot and input.attempts == attempt

    def interrupt_again() -> None:
        if runs_on():
            container.interrupt(input.id, input.started)

    def replace() -> None:
        if runs_on() and input.has_unread_answer():
            input.pool.event_loop.call_later(INTERRUPT_GRACE_SECONDS, replace)
        elif runs_on():
            why = (
                f"{input.method} did not stop within {INTERRUPT_GRACE_SECONDS:g} s of its interrupt"
            )
            others = container.runs_others(slot)
            container.end(Ending(EndKind.DRAIN if others else EndKind.KILL, why))
            if others:
                slot.give_up(why)
            when = " when its other calls have ended" if others else ""
            input.show_from_thread(
                "stderr", f"{input.pool.name}: {why}; its container is replaced{when}\n"
            )

    container.interrupt(input.id, input.started)
    if not again:
        input.pool.event_loop.call_later(SECOND_INTERRUPT_SECONDS, interrupt_again)
        input.pool.event_loop.call_later(INTERRUPT_GRACE_SECONDS, replace)
