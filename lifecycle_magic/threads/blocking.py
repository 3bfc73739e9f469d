"""Blocking work, such as building an image, run for a coroutine on a thread of its own."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from lifecycle_magic.threads.futures import await_future

T = TypeVar("T")

__all__ = ["run_in_thread"]


async def run_in_thread(function: Callable[[], T]) -> T:
    """Run ``function()`` on a new thread, in a copy of this context, and return what it returns.

    Raises what the function raises. Unlike the threads of `asyncio.to_thread`, this thread keeps
    neither the loop nor the process from ending, so that a caller who cancels the wait does not
    wait for a build.
    """
    future: Future[T] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            future.set_result(context.run(function))
        except BaseException as error:
            future.set_exception(error)

    future.set_running_or_notify_cancel()  # the waiting task can be cancelled, the function can't
    threading.Thread(target=run, name="lifecycle-blocking", daemon=True).start()
    return await await_future(future)
