"""Samples of the containers' CPU and memory, taken on a separate thread: an engine may be slow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from lifecycle_magic.container.container import Container
from lifecycle_magic.engines.base import Usage
from lifecycle_magic.exception import EngineError
from lifecycle_magic.ui.panel import gpu_text

__all__ = ["Sampler", "usage"]

SAMPLE_INTERVAL_SECONDS = 2.0
"""Least time between two samples; longer if the engine is slow."""
INTERVAL_PER_DURATION = 5
"""The interval is at least this many times the duration of a sample."""
MAX_PARALLEL = 8


def usage(container: Container) -> Usage | None:
    """Return what one container uses; None if it, or its engine, is not running."""
    if container.id is None:
        return None
    try:
        container.place = container.engine.place(container.id)
        return container.engine.usage(container.id)
    except EngineError:
        return None


class Sampler:
    """A sampler of what containers use.

    ``taken`` is called on the sampler's own thread with the time (seconds since the epoch), the
    usage and the GPUs in words, both by container name.
    """

    def __init__(self, taken: Callable[[float, dict[str, Usage], dict[str, str]], None]) -> None:
        self._taken = taken
        self._next = float("-inf")
        self._thread: threading.Thread | None = None

    def ask(self, containers: Sequence[Container]) -> None:
        """Start a sample of these containers if one is due; do not wait for it."""
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
        with ThreadPoolExecutor(min(MAX_PARALLEL, len(containers))) as workers:
            used = list(workers.map(usage, containers))
        gpus = gpu_text.of_containers(containers)
        self._next = began + max(
            SAMPLE_INTERVAL_SECONDS, INTERVAL_PER_DURATION * (time.monotonic() - began)
        )
        found = {c.name: one for c, one in zip(containers, used, strict=True) if one is not None}
        self._taken(time.time(), found, gpus)

    def join(self) -> None:
        """Wait until the running sample, if any, is done."""
        if self._thread is not None:
            self._thread.join()
