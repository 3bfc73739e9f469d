"""Detection of deadlocks: waiting for a slot that only the waiting code itself could release.

A generator holds its slot until it is read to its end. Code that reads one half and then waits for
another call may hold every slot. A thread that blocks keeps all of its coroutines from reading
further; a coroutine that awaits blocks only itself.

A generator that no code can read any more also holds its slot while something refers to it: a cycle
that is not collected yet, or the traceback that a shell keeps of the last exception.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.threads.sigint import deferred

if TYPE_CHECKING:
    from lifecycle_magic.container.container import Container
    from lifecycle_magic.container.slots import RunningInput, Slot
    from lifecycle_magic.pool.state import PoolState

__all__ = [
    "Deadlocks",
    "Waiter",
    "current_task",
    "free_abandoned_generators",
    "notify_blocking",
    "waiter",
]


@dataclass(frozen=True)
class Waiter:
    """The code that is about to wait: a thread, or with ``task`` one coroutine on it."""

    thread: int
    task: Any = None

    def holds(self, slot: Slot) -> bool:
        """Return whether ``slot`` runs a generator that only this waiter could read further."""
        if slot.input is None or slot.reader is None:
            return False
        if slot.reader != self.thread:
            return slot.reader not in sys._current_frames()  # its thread has ended
        if self.task is None or slot.task is None:
            return True
        reader = slot.task()
        return reader is None or reader.done() or self.task in _awaited_by(reader)


def _awaited_by(task: Any) -> Iterator[Any]:
    """Yield a task, the one that it awaits, the one that this one awaits, and so on.

    The kernel of ipykernel 6 runs a plain cell in a task of its own, and awaits another task that
    runs a cell with ``await``.
    """
    while task is not None:
        yield task
        task = getattr(task, "_fut_waiter", None)


def waiter(*, awaits: bool = False) -> Waiter:
    """Return this thread as a waiter, or with ``awaits`` the coroutine that runs on it."""
    task = current_task() if awaits else None
    return Waiter(threading.get_ident(), task() if task is not None else None)


def current_task() -> weakref.ref[Any] | None:
    """Return the asyncio task that runs on this thread, or None."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:
        return None
    task = asyncio.current_task()
    return weakref.ref(task) if task is not None else None


class Deadlocks:
    """The detection for the pool with this ``state``.

    ``is_held_back`` returns whether a container's free slots wait until its code is changed.
    """

    def __init__(self, state: PoolState, is_held_back: Callable[[Container], bool]) -> None:
        self._state = state
        self._is_held_back = is_held_back

    def check_wait(self, where: str, *, awaits: bool = False) -> None:
        """Raise `InvalidError` if the running code would wait for a slot that only this code can
        release.

        ``where`` names the call that needs the slot. The wait blocks the thread, or with ``awaits``
        only the coroutine. Otherwise notify the inputs in the slots, unless the code ``awaits`` and
        its thread runs on.
        """
        if awaits and self._state.idle:
            return  # a slot is free: nothing waits, and nobody would be notified
        who = waiter(awaits=awaits)
        with deferred():  # otherwise an interrupt might leave the lock taken
            with self._state.lock:
                busy, stuck = self.busy_slots(who)
            if stuck:
                free_abandoned_generators()
                with self._state.lock:
                    busy, stuck = self.busy_slots(who)
            if stuck:
                raise self.error(where)
            if not awaits:
                notify_blocking(busy)

    def busy_slots(self, who: Waiter) -> tuple[list[Slot], bool]:
        """Return the occupied slots, and whether only ``who`` could free one.

        Under the pool's lock.
        """
        busy, is_full = self._occupied()
        return busy, bool(busy) and is_full and all(who.holds(slot) for slot in busy)

    def inputs_if_full(self) -> list[RunningInput | None] | None:
        """Return what each slot runs, None for a slot between two inputs.

        Return None if a slot is free, or another container may start.
        """
        with deferred(), self._state.lock:
            busy, is_full = self._occupied()
            return [slot.input for slot in busy] if is_full else None

    def _occupied(self) -> tuple[list[Slot], bool]:
        state = self._state
        alive = state.alive()
        busy = [
            slot
            for container in alive
            for slot in container.slots
            if slot.input is not None or not self._is_held_back(container)
        ]
        return busy, not (state.starting or state.idle or len(alive) < state.limits.most)

    def error(self, where: str) -> InvalidError:
        """Return the error for the call ``where``, which would wait for its own thread."""
        name, limits = self._state.name, self._state.limits
        return InvalidError(
            f"{where} would wait forever: all calls that {name} can run at once "
            f"({limits.capacity}) are generators that this thread has not read to the end. "
            "Fix: read them first (list(...)), close() them, or allow the class one more "
            f"container: max_containers={limits.most + 1}"
        )


def notify_blocking(busy: Sequence[Slot]) -> None:
    """Notify the inputs in ``busy`` that this thread is about to wait for one of their slots."""
    here = threading.get_ident()
    for slot in busy:
        input = slot.input
        if input is not None:
            input.on_caller_blocking(here)


def free_abandoned_generators() -> None:
    """Free what only garbage and the frames of the last reported exception refer to.

    Frames that have an iterator among their variables lose their variables. A debugger would have
    shown them; without this, the slot of a half-read generator stays occupied until another
    exception is reported.
    """
    error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    trace = error.__traceback__ if isinstance(error, BaseException) else None
    while trace is not None:
        _clear(trace.tb_frame)
        trace = trace.tb_next
    del error, trace
    gc.collect()


def _clear(frame: FrameType) -> None:
    code = frame.f_code
    if not code.co_flags & inspect.CO_OPTIMIZED:
        return  # of a module or cell: its variables are globals
    if code.co_flags & _SUSPENDABLE and sys.version_info < (3, 13):
        return  # it may be suspended; clear() would close it, where Python 3.13 refuses
    kinds = (Iterator, AsyncIterator)
    if any(isinstance(value, kinds) for value in list(frame.f_locals.values())):
        with contextlib.suppress(RuntimeError):  # it runs
            frame.clear()
            # Before Python 3.12 the variables that were read are kept there.
            frame.f_locals  # noqa: B018


_SUSPENDABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
