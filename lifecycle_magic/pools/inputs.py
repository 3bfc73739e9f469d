"""An input: one call on its way to a container, wherever it waits and whoever reads its reply.

It knows its arguments as bytes, the slot it is in, how often it was interrupted and tried, and what
to raise when it does not come back with a value.
"""

from __future__ import annotations

import contextvars
import itertools
import sys
import threading
from typing import Any, Protocol

from lifecycle_magic.containers.slots import Slot
from lifecycle_magic.exception import (
    ContainerDied,
    Error,
    InputCancelled,
    MethodTimeout,
    RemoteError,
    SerializationError,
)
from lifecycle_magic.failure import hide_plumbing
from lifecycle_magic.monitor import Monitor, Timer
from lifecycle_magic.options import Retries
from lifecycle_magic.pools.stats import Stats
from lifecycle_magic.wire.frames import Frame, Kind
from lifecycle_magic.wire.pickling import apart, copied, dumps

PATIENCE = 5.0
"""Seconds that an interrupted method has to stop before its container is replaced."""

INSIST = 3.0
"""Seconds after which it is asked again: a coroutine that did not let itself be cancelled is then
interrupted like a function.
"""

AGAIN = 3
"""Containers that may go before they begin with an input: one that ends each of them must not do so
for ever."""

_ids = itertools.count(1)


class Source(Protocol):
    """What an input needs of the pool that it waits in: `lifecycle_magic.pools.pool.Pool`."""

    name: str
    monitor: Monitor
    timeout: float | None
    retries: Retries | None
    stats: Stats

    def lease(self, input: Input) -> Slot: ...
    def submit(self, input: Input) -> None: ...
    def forget(self, input: Input) -> bool: ...
    def release(self, slot: Slot) -> None: ...


class Unstarted(Exception):
    """The container went before it began with the input; another one may take it."""


def show(stream: str, text: str) -> None:
    """Print what a method printed, into the cell or terminal of the current context."""
    target = sys.stderr if stream == "stderr" else sys.stdout
    try:
        target.write(text)
        target.flush()
    except (OSError, ValueError):
        pass  # a terminal or pipe that is closed; the log has it


class Input:
    """One call: what to send, and where it is.

    Raises `SerializationError`, which names the argument, if an argument can't be pickled.
    """

    __slots__ = (
        "attempts",
        "buffers",
        "context",
        "error",
        "gate",
        "id",
        "interrupts",
        "method",
        "payload",
        "pool",
        "slot",
        "timed_out",
        "unsent",
        "unstarted",
    )

    kind = Kind.CALL
    copies: bool | None = None  # its large arguments; None: if they may be sent a second time
    counts = True  # as one call of the pool and of its container
    shares = True  # waits for a slot that one who holds it for many inputs has to give up

    def __init__(
        self, pool: Source, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.id = next(_ids)
        self.pool = pool
        self.method = method
        self.slot: Slot | None = None
        self.error: BaseException | None = None
        self.interrupts = 0  # how often the user asked
        self.timed_out = False
        self.unsent = False  # the connection had ended before it went out
        self.unstarted = 0  # times that its container went before it began
        self.attempts = 0  # that failed
        self.gate: threading.Lock | None = None
        self.context = contextvars.copy_context()
        try:
            self.payload, self.buffers = dumps((self.id, method, apart(args), kwargs))
        except Exception as error:
            raise unpicklable(f"{pool.name}.{method}", args, kwargs, error) from None
        if self.buffers and (self.copies or (self.copies is None and pool.retries is not None)):
            # Those are the caller's own arrays, and it may change them before they are sent.
            self.buffers = copied(self.buffers)

    # --- the pool's side -------------------------------------------------------------------

    def grant(self, slot: Slot) -> None:
        """The pool gives a slot to this waiting input. On any thread, under the pool's lock."""
        self.slot = slot
        self._open_gate()

    def refuse(self, error: BaseException) -> None:
        """The pool can't give it a slot: no container comes up."""
        self.error = error
        self._open_gate()

    def _open_gate(self) -> None:
        """Let the waiting thread go on. On any thread, and in a signal handler on the main one."""
        try:
            if self.gate is not None:
                self.gate.release()
        except RuntimeError:
            pass  # somebody else has just opened it

    def show_from_elsewhere(self, stream: str, text: str) -> None:
        """Print in the cell that made this call, from another thread."""
        # A context can't be entered twice, and the caller's own thread may be in it.
        self.context.copy().run(show, stream, text)

    def going(self) -> None:
        """Its container takes no more inputs, and goes when this one has ended. On any thread."""

    # --- how it can fail -------------------------------------------------------------------

    @property
    def where(self) -> str:
        return f"{self.pool.name}.{self.method}"

    def lost(self, slot: Slot) -> BaseException:
        """The connection ended before the reply: what to raise instead."""
        slot.container.hung_up()
        if self.unsent:
            return Unstarted()
        container = slot.container
        container.wait_for_last_words()
        if self.timed_out:
            return self._too_long("and did not stop when interrupted; its container is replaced")
        if container.may_have_begun(slot, self.id):
            return container.died(self.method)
        if self.unstarted < AGAIN:
            self.unstarted += 1
            return Unstarted()
        return ContainerDied(
            f"{AGAIN + 1} containers went before they began with {self.where}. "
            f"The last one: {container.obituary()}"
        )

    def stopped(self, slot: Slot, frame: Frame) -> BaseException:
        """The answer is CANCELLED, or SKIPPED if nothing of the method had run: what to raise."""
        if self.timed_out:
            return self._too_long("and was interrupted; its container stays warm")
        if not self.interrupts and (frame.kind == Kind.SKIPPED or frame.payload):
            slot.container.hung_up()  # it goes, and nobody but that asked for the interrupt
            if frame.kind == Kind.SKIPPED:
                return Unstarted()
            return ContainerDied(
                f"the container of {self.where} was stopped from outside while the call was running"
            )
        return InputCancelled(
            f"{self.where} was interrupted: {slot.container.why or 'it was cancelled'}"
        )

    def before_it_began(self) -> InputCancelled:
        return InputCancelled(f"{self.where} was interrupted before it began")

    def _too_long(self, what: str) -> MethodTimeout:
        return MethodTimeout(
            f"{self.where} took longer than timeout={self.pool.timeout:g} s {what}"
        )

    def watch_time(self) -> Timer | None:
        """Begin an attempt: from now on ``timeout`` runs."""
        self.timed_out = self.unsent = False
        timeout = self.pool.timeout
        return self.pool.monitor.later(timeout, self.expire) if timeout is not None else None

    def runs_in(self) -> Slot | None:
        """The slot in which it runs right now. From any thread."""
        slot = self.slot
        return slot if slot is not None and slot.input is self else None

    def unread(self) -> bool:
        """Whether it has answered already, for all that is known: nobody may have looked yet."""
        return False

    def expire(self) -> None:
        """On the monitor's thread: the attempt has taken its ``timeout``."""
        if self.runs_in() is not None:
            self.timed_out = True
            interrupt(self)

    def delay(self, error: BaseException) -> float | None:
        """Seconds before the next attempt after ``error``; None if there is none."""
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
        """Wait between two attempts; an interrupt ends it."""
        gate = self.gate = threading.Lock()
        gate.acquire()
        gate.acquire(timeout=seconds)


def interrupt(input: Input, at_once: bool = False) -> None:
    """On the monitor's thread: have the method interrupted; if that does not help, replace its
    container.
    """
    slot = input.runs_in()
    if slot is None:
        return
    container, attempt = slot.container, input.attempts

    def runs_on() -> bool:
        # The next attempt may well be in the same slot, and nobody asked for its interrupt.
        return input.runs_in() is slot and input.attempts == attempt

    def insist() -> None:
        if runs_on():
            container.interrupt(input.id)

    def replace() -> None:
        if runs_on() and input.unread():
            input.pool.monitor.later(PATIENCE, replace)
        elif runs_on():
            why = f"{input.method} did not stop within {PATIENCE:g} s of its interrupt"
            container.abandon(why)
            input.show_from_elsewhere(
                "stderr", f"{input.pool.name}: {why}; its container is replaced\n"
            )

    if at_once:
        replace()
    else:
        container.interrupt(input.id)
        input.pool.monitor.later(INSIST, insist)
        input.pool.monitor.later(PATIENCE, replace)


def unpicklable(
    where: str, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception
) -> SerializationError:
    """Name the argument that is to blame, by trying each alone."""
    named = [(f"argument {index + 1}", value) for index, value in enumerate(args)]
    named += [(f"argument {name}=", value) for name, value in kwargs.items()]
    for name, value in named:
        try:
            dumps(value)
        except Exception as own:
            result = SerializationError(
                f"{where}: {name}, a {type(value).__name__}, can't be pickled and so can't travel "
                f"to the container: {own}. Pass plain data, or make it in the method or in enter."
            )
            break
    else:
        result = SerializationError(f"{where}: the arguments can't be pickled: {error}")
    hide_plumbing(result)
    return result
