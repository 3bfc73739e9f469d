"""The order in which outputs are shown that reach this process over several connections.

A method prints, and calls a method of another container, which prints. The first output comes over
the data connection of the caller, the second over another one, so the second may be read first.
The caller counts what it has sent, and the call carries the count. The output of the called method
waits until that many outputs of the caller are shown, and whatever shows the last of them shows it.
So no thread waits, and a call that prints nothing costs nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

__all__ = ["OutputOrder"]

LOCK_SECONDS = 1.0
"""Seconds to wait for a thread that shows output. The user's own ``sys.stdout`` may block there."""


class OutputOrder:
    """The outputs of one data connection, and those that are shown after them.

    ``shown`` counts the outputs of the connection. Any thread may call the methods.
    """

    __slots__ = ("_is_over", "_later", "_lock", "shown")

    def __init__(self) -> None:
        self.shown = 0
        self._is_over = False
        self._later: deque[tuple[int, Callable[[], object]]] = deque()
        self._lock = threading.RLock()  # held while an output is shown that had to wait

    def note_shown(self) -> None:
        """Count an output that was shown, and show what waits for it."""
        self.shown += 1
        if self._later:
            self._show_due()

    def show_after(self, count: int, show: Callable[[], object]) -> None:
        """Call ``show`` when ``count`` outputs are shown, and after earlier ones that wait."""
        self._later.append((count, show))
        self._show_due()

    def begin_input(self) -> None:
        """Note that the connection runs an input, whose outputs may have to be awaited."""
        self._is_over = False

    def end_input(self) -> None:
        """Note that the input has ended, and show all that waits.

        All of its outputs are shown, unless its container has exited: then some are lost.
        """
        self._is_over = True
        if self._later:
            self._show_due()

    def _show_due(self) -> None:
        if not self._lock.acquire(timeout=LOCK_SECONDS):
            return  # the thread that has the lock goes on with what was added
        try:
            while self._later and (self._is_over or self.shown >= self._later[0][0]):
                _, show = self._later.popleft()
                show()
        finally:
            self._lock.release()
