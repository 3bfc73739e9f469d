"""A wait for a start, which an interrupt may end.

An interrupt raises on the main thread between any two steps. Therefore none of the steps of a
start, which count containers and assign slots, runs there: a start has a thread of its own.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

from lifecycle_magic.container.container import Container
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.lifecycle.states import PENDING_STATES

T = TypeVar("T")

__all__ = ["PendingStart", "wait_for"]

GIVEN_UP = Ending(EndKind.STOP, "the wait for it was interrupted")


class PendingStart:
    """A start that a caller waits for, and may give up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._container: Container | None = None
        self._given_up = False

    def set_container(self, container: Container) -> None:
        """Set the container that the start has created."""
        with self._lock:
            self._container = container
            given_up = self._given_up
        if given_up:
            container.end(GIVEN_UP)

    def give_up(self) -> None:
        """End the container, unless it is warm: a warm one serves the next caller."""
        with self._lock:
            self._given_up = True
            container = self._container
        if container is not None and container.state in PENDING_STATES:
            container.end(GIVEN_UP)

    def cause_of(self, error: BaseException) -> BaseException:
        """Return what made the start fail: giving up, or ``error``."""
        return KeyboardInterrupt() if self._given_up else error


def wait_for(start: Callable[[PendingStart], T]) -> T:
    """Run ``start(pending)`` on a thread of its own, in a copy of this context, and return its
    result.

    An interrupt of this wait ends the start, and is raised when the start has ended; a second
    interrupt is raised at once.
    """
    pending = PendingStart()
    outcome: list[T] = []
    failed: list[BaseException] = []
    over = threading.Lock()  # an interrupt while acquiring leaves it unchanged
    over.acquire()

    def run() -> None:
        try:
            outcome.append(start(pending))
        except BaseException as error:
            failed.append(error)
        finally:
            over.release()

    thread = threading.Thread(
        target=contextvars.copy_context().run, args=(run,), name="lifecycle-start", daemon=True
    )
    try:
        thread.start()
        over.acquire()
    except BaseException:
        pending.give_up()
        if thread.ident is not None and not (outcome or failed):
            over.acquire()
        raise
    if failed:
        raise failed[0]
    return outcome[0]
