"""Prompts of a call that wait for the thread or coroutine that waits for the call."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

__all__ = ["PromptQueue", "wait_and_ask"]


class PromptQueue:
    """Functions that ask the user. They run where the call is waited for."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], object], Callable[[], object]]] = deque()
        self._wake: list[Callable[[], object]] = []
        self._is_closed = False

    def put(self, ask: Callable[[], object], refuse: Callable[[], object]) -> None:
        """Add a function, and what to call instead if the call is never waited for. On any
        thread.
        """
        self._waiting.append((ask, refuse))
        if self._is_closed:
            self.close()
        for wake in self._wake.copy():
            with contextlib.suppress(RuntimeError):  # a loop that is closed
                wake()

    def serve(self) -> None:
        """Run the functions that are there, on this thread."""
        with contextlib.suppress(IndexError):  # another thread was quicker
            while self._waiting:
                self._waiting.popleft()[0]()

    def close(self) -> None:
        """Refuse what is there and what comes later: no code can wait for the call any more."""
        self._is_closed = True
        with contextlib.suppress(IndexError):
            while self._waiting:
                self._waiting.popleft()[1]()

    @contextlib.contextmanager
    def attended(self, wake: Callable[[], object]) -> Iterator[None]:
        """Call ``wake`` when there is something to `serve`, now or later in the block."""
        self._wake.append(wake)
        try:
            if self._waiting:
                wake()
            yield
        finally:
            self._wake.remove(wake)

    def attended_by(
        self, loop: asyncio.AbstractEventLoop
    ) -> contextlib.AbstractContextManager[None]:
        """Have the loop serve, in the current context."""
        import contextvars

        context = contextvars.copy_context()
        return self.attended(lambda: loop.call_soon_threadsafe(self.serve, context=context))


def wait_and_ask(
    futures: Sequence[Future[Any]], queues: Sequence[PromptQueue], timeout: float | None = None
) -> None:
    """Wait for all futures, or for the first exception, and serve the queues on this thread.

    ``timeout`` is in seconds.
    """
    woken = threading.Event()
    deadline = None if timeout is None else time.monotonic() + timeout
    with contextlib.ExitStack() as attending:
        for queue in queues:
            attending.enter_context(queue.attended(woken.set))
        for future in futures:
            future.add_done_callback(lambda _: woken.set())
        while wait(futures, 0, FIRST_EXCEPTION).not_done and not _has_failed(futures):
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            woken.wait(left)
            woken.clear()
            for queue in queues:
                queue.serve()


def _has_failed(futures: Sequence[Future[Any]]) -> bool:
    return any(one.done() and (one.cancelled() or one.exception() is not None) for one in futures)
