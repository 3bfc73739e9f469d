"""What may take long, such as building an image, done for a coroutine on a thread of its own."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

__all__ = ["aside"]


async def aside(function: Callable[[], T]) -> T:
    """What ``function()`` returns or raises, in a copy of this context.

    Unlike `asyncio.to_thread`'s, the thread keeps neither the loop nor the process from ending: who
    cancels the wait need not sit a build out.
    """
    future: Future[T] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            future.set_result(context.run(function))
        except BaseException as error:
            future.set_exception(error)

    future.set_running_or_notify_cancel()  # who waits may be cancelled, and this can't
    threading.Thread(target=run, name="lifecycle-aside", daemon=True).start()
    return await asyncio.wrap_future(future)
