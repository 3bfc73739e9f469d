"""Futures of `concurrent.futures`, awaited without a change to what they hold."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

__all__ = ["await_future"]


async def await_future(future: Future[T]) -> T:
    """Return or raise exactly what ``future`` holds. Cancelling the wait cancels ``future``.

    `asyncio.wrap_future` alone raises a copy of a ``TimeoutError``, ``CancelledError`` or
    ``InvalidStateError``, which has the arguments of the original, but not its traceback, cause
    and attributes.
    """
    waiting = asyncio.wrap_future(future)
    try:
        return await waiting
    except BaseException as error:
        # Anything else was raised in the waiting task, by a cancellation for example.
        is_outcome = waiting.done() and not waiting.cancelled() and waiting.exception() is error
        if not is_outcome:
            raise
    return future.result()
