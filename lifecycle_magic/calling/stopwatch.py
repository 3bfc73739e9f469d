"""How long a consumer has waited: the time that counts for a generator's ``timeout``.

What the consumer does between two items is its own business, so the clock stands then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from lifecycle_magic.monitor import Timer
from lifecycle_magic.pools.inputs import Source

__all__ = ["Stopwatch"]


class Stopwatch:
    """Sums up the waits of one attempt, and tells when they come to the pool's ``timeout``, as it
    is then. `reset` begins an attempt and `stop` ends it; in between `go` and `pause` take turns.
    """

    def __init__(self, pool: Source) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._expired: Callable[[], None] | None = None
        self._used = 0.0  # seconds that the consumer has waited
        self._since: float | None = None  # it waits now
        self._timer: Timer | None = None

    def reset(self, expired: Callable[[], None]) -> None:
        """A new attempt begins. ``expired`` is called on the monitor's thread, while the consumer
        waits.
        """
        self._expired = expired
        self._used = 0.0
        timeout = self._pool.timeout
        self._timer = self._later(timeout) if timeout is not None else None

    def go(self) -> None:
        """The consumer begins to wait."""
        timeout = self._pool.timeout
        with self._lock:
            self._since = time.monotonic()
            if timeout is not None and self._timer is None:
                self._timer = self._later(timeout - self._used)

    def pause(self) -> None:
        """The consumer has what it waited for."""
        with self._lock:
            if self._since is not None:
                self._used += time.monotonic() - self._since
                self._since = None

    def stop(self) -> None:
        """The attempt is over. Again and again, if need be."""
        with self._lock:
            self._since = None
            self._expired = None  # it keeps the input, which keeps this
            if self._timer is not None:
                self._timer.cancel()

    def _later(self, seconds: float) -> Timer:
        return self._pool.monitor.later(seconds, self._due)

    def _due(self) -> None:
        timeout = self._pool.timeout
        with self._lock:
            self._timer = None
            if timeout is None or self._since is None or self._expired is None:
                return  # the consumer is at work; the clock goes on when it waits again
            left = timeout - self._used - (time.monotonic() - self._since)
            if left > 0:
                self._timer = self._later(left)
                return
            expired = self._expired
        expired()
