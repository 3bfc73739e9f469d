"""Futures of `concurrent.futures` in coroutines: their results and errors arrive unchanged."""

from __future__ import annotations

import asyncio
import concurrent.futures
from concurrent.futures import Future
from typing import Any

import pytest

from lifecycle_magic.threads.futures import await_future


async def outcome(future: Future[Any]) -> BaseException:
    """The exception that awaiting ``future`` raises."""
    try:
        await await_future(future)
    except BaseException as error:
        return error
    pytest.fail("nothing was raised")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("plain"),
        TimeoutError(110, "timed out"),
        concurrent.futures.TimeoutError("timed out"),
        concurrent.futures.CancelledError("of an executor"),
        concurrent.futures.InvalidStateError("set twice"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_very_exception_is_raised(error: Exception) -> None:
    early, late = Future[None](), Future[None]()
    early.set_exception(error)

    async def main() -> tuple[BaseException, BaseException]:
        asyncio.get_running_loop().call_soon(late.set_exception, error)
        return await outcome(early), await outcome(late)

    assert [one is error for one in asyncio.run(main())] == [True, True]


def test_cancelling_the_wait_cancels_the_future() -> None:
    future = Future[None]()

    async def main() -> None:
        task = asyncio.create_task(await_future(future))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert future.cancelled()


def test_a_value_is_returned_and_a_cancelled_future_cancels() -> None:
    done, cancelled = Future[int](), Future[int]()
    done.set_result(3)
    cancelled.cancel()

    async def main() -> tuple[int, BaseException]:
        return await await_future(done), await outcome(cancelled)

    value, error = asyncio.run(main())
    assert (value, type(error)) == (3, asyncio.CancelledError)
