"""Awaitables of the user's code, run to their end and interruptible.

The first interrupt cancels the task. Another one raises KeyboardInterrupt in the coroutine if the
coroutine blocks its event loop; otherwise it cancels the task once more. It never raises inside the
loop itself. That would lose callbacks, or leave the task running during later calls.
"""

from __future__ import annotations

import asyncio
import types
from typing import Any

from lifecycle_magic.guest.interrupts import InterruptTarget

_RAISED_THROUGH_LOOP = (KeyboardInterrupt, SystemExit)
"""Exceptions that any task raises through the loop that runs it."""


def run_on_this_thread(
    loop: asyncio.AbstractEventLoop, awaitable: Any, target: InterruptTarget
) -> Any:
    """Run ``loop`` on this thread until ``awaitable`` ends, and return its value."""
    with target:  # an interrupt arrives before there is a task, or finds the task
        is_coroutine = isinstance(awaitable, types.CoroutineType)
        task = loop.create_task(awaitable if is_coroutine else _awaiting(awaitable))
        _interruptible(loop, [task], target)
    try:
        while True:
            try:
                return loop.run_until_complete(task)
            except _RAISED_THROUGH_LOOP:
                if task.done():
                    raise
                # Raised by a task that another call left behind, so not meant for this call.
    except asyncio.CancelledError:
        if target.cancel_task is None:  # taken: the interrupt cancelled the task
            raise KeyboardInterrupt from None
        raise
    finally:
        target.cancel_task = target.cancel_again = None


def run_from_thread(
    loop: asyncio.AbstractEventLoop, awaitable: Any, target: InterruptTarget
) -> Any:
    """Run ``awaitable`` on ``loop``, which another thread runs, and return its value."""
    tasks: list[asyncio.Task[Any]] = []
    raised: list[BaseException] = []  # ``future`` holds a copy of some, without traceback and cause

    async def run() -> Any:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        if target.cancel_task is None:  # taken before there was a task
            task.cancel()
        try:
            return await awaitable
        except BaseException as error:
            raised.append(error)
            raise

    with target:
        _interruptible(loop, tasks, target)
        future = asyncio.run_coroutine_threadsafe(run(), loop)
    try:
        return future.result()
    except BaseException as error:
        is_interrupt = target.cancel_task is None
        # asyncio's CancelledError and that of concurrent.futures are two classes.
        if is_interrupt and type(error).__name__ == "CancelledError":
            raise KeyboardInterrupt from None
        if not raised:
            raise
    finally:
        target.cancel_task = target.cancel_again = None
    raise raised.pop()


def run_until(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
    """Run ``loop`` until ``future`` is done, whatever other tasks raise meanwhile."""
    while not future.done():
        try:
            loop.run_until_complete(future)
        except _RAISED_THROUGH_LOOP:
            continue


def _interruptible(
    loop: asyncio.AbstractEventLoop, tasks: list[asyncio.Task[Any]], target: InterruptTarget
) -> None:
    """Let interrupts of ``target`` stop the tasks in ``tasks``."""

    def cancel() -> None:
        for task in tasks:
            task.cancel()

    def cancel_again() -> bool:
        if asyncio.current_task(loop) in tasks:
            return True
        loop.call_soon_threadsafe(cancel)
        return False

    target.cancel_task = lambda: loop.call_soon_threadsafe(cancel)
    target.cancel_again = cancel_again


async def _awaiting(awaitable: Any) -> Any:
    return await awaitable
