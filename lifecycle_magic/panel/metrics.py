"""What containers use, asked of their engines beside everything else: an engine may be slow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from lifecycle_magic.containers.container import Container
from lifecycle_magic.engines.base import Usage
from lifecycle_magic.exception import EngineError

__all__ = ["Sampler", "usage"]

PERIOD = 2.0
"""Seconds between samples; more where the engine takes long."""
SHARE = 5
"""Asking may take one part in that many of the time."""
AT_ONCE = 8


def usage(container: Container) -> Usage | None:
    """What one container uses; None if it has not started, has gone, or its engine has."""
    if container.id is None:
        return None
    try:
        return container.engine.usage(container.id)
    except EngineError:
        return None


class Sampler:
    """Takes a sample when it is asked to and the last one is long enough ago.

    ``taken`` gets the time (seconds since the epoch) and what each container used, on a thread
    of the sampler's own.
    """

    def __init__(self, taken: Callable[[float, dict[str, Usage]], None]) -> None:
        self._taken = taken
        self._next = float("-inf")
        self._thread: threading.Thread | None = None

    def ask(self, containers: Sequence[Container]) -> None:
        """Sample them if it is time to; returns at once."""
        if not containers or time.monotonic() < self._next:
            return
        if self._thread is not None and self._thread.is_alive():
            return
        self._thread = threading.Thread(
            target=self._sample, args=(containers,), name="lifecycle-metrics", daemon=True
        )
        self._thread.start()

    def _sample(self, containers: Sequence[Container]) -> None:
        began = time.monotonic()
        with ThreadPoolExecutor(min(AT_ONCE, len(containers))) as workers:
            used = list(workers.map(usage, containers))
        self._next = began + max(PERIOD, SHARE * (time.monotonic() - began))
        found = {c.name: one for c, one in zip(containers, used, strict=True) if one is not None}
        self._taken(time.time(), found)

    def join(self) -> None:
        """Wait until no sample is being taken."""
        if self._thread is not None:
            self._thread.join()
