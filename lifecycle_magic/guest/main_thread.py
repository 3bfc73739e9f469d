"""Sync functions of the user's code, run for a coroutine on the thread of sync methods.

That is the main thread, which then sees no running loop, or with ``@concurrent`` the thread of the
lane. While the function runs, an interrupt is raised in it, as in any sync method. The coroutine
that waits for it is then cancelled.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from lifecycle_magic.guest.lane import Lane
from lifecycle_magic.guest.output import current_lane


async def run_sync(function: Callable[[], Any]) -> Any:
    """Return the value of ``function()``, or raise what it raises.

    For a coroutine that answers a request.
    """
    lane = current_lane.get()
    assert lane is not None
    if lane.target.is_here:
        return _run_outside_loop(lane, function)
    return await _run_on_lane_thread(lane, function)


def _run_outside_loop(lane: Lane, function: Callable[[], Any]) -> Any:
    loop, task, target = asyncio.get_running_loop(), asyncio.current_task(), lane.target
    cancel, target.cancel_task = target.cancel_task, None  # an interrupt raises from here on
    again, target.cancel_again = target.cancel_again, None
    # Hide the loop: the function may run one of its own.
    asyncio.tasks._leave_task(loop, task)  # type: ignore[arg-type]
    asyncio._set_running_loop(None)
    try:
        value = function()
    except KeyboardInterrupt:
        raise asyncio.CancelledError from None  # `cancel_task` stays None: it was an interrupt
    except BaseException:
        target.cancel_task = cancel
        raise
    finally:
        asyncio._set_running_loop(loop)
        asyncio.tasks._enter_task(loop, task)  # type: ignore[arg-type]
        target.cancel_again = again
    target.cancel_task = cancel
    return value


async def _run_on_lane_thread(lane: Lane, function: Callable[[], Any]) -> Any:
    loop, target = asyncio.get_running_loop(), lane.target
    future = loop.create_future()
    context = contextvars.copy_context()

    def set_outcome(value: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if isinstance(error, KeyboardInterrupt):
            future.cancel()
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)

    def job() -> None:
        cancel, target.cancel_task = target.cancel_task, None
        again, target.cancel_again = target.cancel_again, None
        value, error = None, None
        try:
            value = context.run(function)
        except BaseException as raised:
            error = raised
        target.cancel_again = again
        if not isinstance(error, KeyboardInterrupt):
            target.cancel_task = cancel
        loop.call_soon_threadsafe(set_outcome, value, error)

    lane.jobs.put(job)
    return await future
