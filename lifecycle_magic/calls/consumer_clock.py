"""A clock of the time that a consumer waits, which counts for a generator's ``timeout``.

The time that the consumer spends between two items does not count, so the clock is paused then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from lifecycle_magic.calls.input import InputPool
from lifecycle_magic.threads.event_loop import Timer

__all__ = ["ConsumerClock"]


class ConsumerClock:
    """A clock that adds up the waits of one attempt and reports when they reach the pool's
    ``timeout``.

    The pool's current ``timeout`` applies. `reset` begins an attempt and `stop` ends it; in
    between, `start` and `pause` alternate.
    """

    def __init__(self, pool: InputPool) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._expired: Callable[[], None] | None = None
        self._used = 0.0  # seconds that the consumer has waited
        self._since: float | None = None  # when the current wait began
        self._timer: Timer | None = None

    def reset(self, expired: Callable[[], None]) -> None:
        """Begin a new attempt.

        ``expired`` is called on the event loop's thread, while the consumer waits.
        """
        self._expired = expired
        self._used = 0.0
        timeout = self._pool.timeout
        self._timer = self._later(timeout) if timeout is not None else None

    @property
    def is_running(self) -> bool:
        """Return whether the consumer waits."""
        return self._since is not None

    def start(self) -> None:
        """Start the clock: the consumer begins to wait."""
        timeout = self._pool.timeout
        with self._lock:
            self._since = time.monotonic()
            if timeout is not None and self._timer is None:
                self._timer = self._later(timeout - self._used)

    def pause(self) -> None:
        """Pause the clock: the consumer has what it waited for."""
        with self._lock:
            if self._since is not None:
                self._used += time.monotonic() - self._since
                self._since = None

    def stop(self) -> None:
        """End the attempt. May be called several times."""
        with self._lock:
            self._since = None
            self._expired = None  # it refers to the input, which refers to this clock
            if self._timer is not None:
                self._timer.cancel()

    def _later(self, seconds: float) -> Timer:
        return self._pool.event_loop.call_later(seconds, self._due)

    def _due(self) -> None:
        timeout = self._pool.timeout
        with self._lock:
            self._timer = None
            if timeout is None or self._since is None or self._expired is None:
                return  # the consumer is busy; the clock continues when it waits again
            left = timeout - self._used - (time.monotonic() - self._since)
            if left > 0:
                self._timer = self._later(left)
                return
            expired = self._expired
        expired()
