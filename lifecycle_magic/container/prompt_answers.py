"""The lines that the user enters for the code in a container."""

from __future__ import annotations

import threading
from concurrent.futures import Future, InvalidStateError

__all__ = ["Answer", "PromptAnswers"]

MAX_OPEN = 1000
"""Prompts of a container that wait for their answers, or answers for their prompts. The oldest are
dropped.
"""

Answer = tuple[str, str]
"""`LINE`, `END` or `REFUSED` of `lifecycle_magic.wire.nested`, and a string."""


class PromptAnswers:
    """The answers to a container's prompts, by the numbers of the prompts.

    The thread that asks the user and the one that serves the container meet here, in any order.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, Future[Answer]] = {}

    def put(self, number: int, kind: str, text: str = "") -> None:
        """Answer a prompt. An answer that the container does not want any more has no effect."""
        try:
            self._meet(number).set_result((kind, text))
        except InvalidStateError:
            pass

    def take(self, number: int) -> Future[Answer]:
        """Return the future of an answer. Cancelling it withdraws the prompt."""
        future = self._meet(number)
        future.add_done_callback(lambda done: self._forget(number) if done.cancelled() else None)
        return future

    def _meet(self, number: int) -> Future[Answer]:
        with self._lock:
            found = self._open.pop(number, None)
            if found is None:
                if len(self._open) >= MAX_OPEN:
                    del self._open[next(iter(self._open))]
                found = self._open[number] = Future()
            return found

    def _forget(self, number: int) -> None:
        with self._lock:
            self._open.pop(number, None)
