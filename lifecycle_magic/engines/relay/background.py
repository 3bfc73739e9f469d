"""Threads for requests that block, beside a loop that never does."""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
from collections import deque
from collections.abc import Callable

__all__ = ["BackgroundThreads"]


class BackgroundThreads:
    """The threads of a loop around ``selector``. ``running`` is their number."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.running = 0
        self._calls: deque[Callable[[], None]] = deque()  # of the threads, for the loop
        self._wake_r, self._wake_w = os.pipe()
        os.set_blocking(self._wake_r, False)
        os.set_blocking(self._wake_w, False)
        selector.register(self._wake_r, selectors.EVENT_READ, lambda _: self._on_wake())

    def start(self, work: Callable[[], None]) -> None:
        """Do ``work`` on a thread. On the loop's own thread."""
        self.running += 1

        def run() -> None:
            try:
                work()
            finally:
                self.call(self._end)

        threading.Thread(target=run, daemon=True).start()

    def call(self, call: Callable[[], None]) -> None:
        """Have the loop call a function. On any thread."""
        self._calls.append(call)
        with contextlib.suppress(BlockingIOError):  # the loop is awake already
            os.write(self._wake_w, b"\0")

    def _end(self) -> None:
        self.running -= 1

    def _on_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_r, 4096)
        while self._calls:
            self._calls.popleft()()
