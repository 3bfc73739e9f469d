"""The pump for a map of a ``@batched`` method.

Each input goes to the method's batcher, which combines it with inputs of other callers. The batches
take slots.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

__all__ = ["BatchPump", "Submit"]

Submit = Callable[[tuple[Any, ...], dict[str, Any]], "Future[Any]"]
"""The type of `lifecycle_magic.calls.batching.Batcher.submit`."""


class BatchPump:
    """A pump that submits inputs to a batcher until it is closed.

    ``count`` and ``settle`` are as for a `lifecycle_magic.calls.map.pump.Pump`. Each input counts
    as zero bytes, because the batcher holds it.
    """

    def __init__(
        self,
        submit: Submit,
        count: Callable[[int, int], None],
        settle: Callable[[list[tuple[int, bool, Any, int]]], None],
    ) -> None:
        self._submit = submit
        self._count = count
        self._settle = settle
        self._lock = threading.Lock()
        self._submitted: set[Future[Any]] = set()
        self._closed = False

    def put(self, index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Add one input. Raises `SerializationError` if it cannot be pickled."""
        self._count(index, 0)
        future = self._submit(args, kwargs)
        with self._lock:
            self._submitted.add(future)
            closed = self._closed

        def done(future: Future[Any]) -> None:
            with self._lock:
                self._submitted.discard(future)
            if future.cancelled():
                return  # by `close`
            error = future.exception()
            self._settle([(index, error is None, error or future.result(), 0)])

        future.add_done_callback(done)
        if closed:
            future.cancel()

    def end(self) -> None:
        """Do nothing: no code waits for the end of the inputs."""

    def close(self) -> None:
        """Cancel all inputs. A batch whose inputs are all cancelled is interrupted."""
        with self._lock:
            self._closed = True
            submitted = list(self._submitted)
        for future in submitted:
            future.cancel()
