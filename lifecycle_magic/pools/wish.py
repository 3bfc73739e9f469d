"""Waiting for a start that an interrupt may end.

An interrupt raises on the main thread between any two steps. So none of the steps of a start, which
count containers and hand out slots, is done there: they have a thread of their own.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

from lifecycle_magic.containers.container import Container
from lifecycle_magic.state import COMING

T = TypeVar("T")

__all__ = ["Wish", "wait_for"]

GAVE_UP = "the wait for it was interrupted"


class Wish:
    """That one start comes to its end; whoever had it may give up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._container: Container | None = None
        self._given_up = False

    def made(self, container: Container) -> None:
        """This is what the start has come to."""
        with self._lock:
            self._container = container
            given_up = self._given_up
        if given_up:
            container.end(GAVE_UP)

    def give_up(self) -> None:
        """End the container, unless it is warm: then it is for whoever comes next."""
        with self._lock:
            self._given_up = True
            container = self._container
        if container is not None and container.state in COMING:
            container.end(GAVE_UP)

    def cause(self, error: BaseException) -> BaseException:
        """What failed the start: giving up, or ``error``."""
        return KeyboardInterrupt() if self._given_up else error


def wait_for(start: Callable[[Wish], T]) -> T:
    """What ``start(wish)`` returns or raises, in a copy of this context and on a thread of its own.

    An interrupt of this wait ends the start, and is raised when that is over; a second one at once.
    """
    wish = Wish()
    outcome: list[T] = []
    failed: list[BaseException] = []
    over = threading.Lock()  # an interrupt of acquiring it leaves it as it was
    over.acquire()

    def run() -> None:
        try:
            outcome.append(start(wish))
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
        wish.give_up()
        if thread.ident is not None and not (outcome or failed):
            over.acquire()
        raise
    if failed:
        raise failed[0]
    return outcome[0]
