"""What the user holds of a call that was started and is not waited for: a `FunctionCall`.

It knows of the call's future alone. Who runs the call and reads its reply is the business of
`lifecycle_magic.calling.attended`, or of a batch.
"""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, Any

from lifecycle_magic.calling.way import Way
from lifecycle_magic.exception import InputCancelled
from lifecycle_magic.sigint import deferred

if TYPE_CHECKING:
    import asyncio  # below, only where it is used: a class that names the type loads no more

__all__ = ["FunctionCall", "gather"]


class FunctionCall:
    """A call that was started and not waited for. ``await`` it, or `get` its value.

    ``get``, ``cancel`` and ``gather`` have a twin for coroutines, ``.aio``.
    """

    gather: Way  # of `gather`, below

    def __init__(self, future: Future[Any], where: str) -> None:
        self._future = future
        self._where = where

    @property
    def get(self) -> Way:
        """``get(timeout=None)``: the value, or the method's exception."""
        return Way(self._get, self._get_aio)

    @property
    def cancel(self) -> Way:
        """``cancel()``: interrupt the method; its container stays warm."""
        return Way(self._cancel, self._cancel_aio)

    def _get(self, timeout: float | None = None) -> Any:
        """The value, or the method's exception.

        Raises `TimeoutError` after ``timeout`` seconds; the call then goes on. Interrupting the
        wait interrupts the method.
        """
        __tracebackhide__ = True
        try:
            return self._future.result(timeout)
        except CancelledError:
            raise InputCancelled(f"{self._where} was cancelled") from None
        except FutureTimeout as error:
            if self._future.done():
                raise  # the method's own
            raise self._not_yet(timeout) from error
        except KeyboardInterrupt:
            self._cancel()
            raise

    async def _get_aio(self, timeout: float | None = None) -> Any:
        """`_get` for coroutines. Cancelling the task that waits leaves the call alone."""
        import asyncio

        if not (await asyncio.wait([self._waiting()], timeout=timeout))[0]:
            raise self._not_yet(timeout)
        return self._get()

    def _not_yet(self, timeout: float | None) -> TimeoutError:
        return TimeoutError(f"{self._where} has not returned within {timeout:g} s; it goes on")

    def _cancel(self) -> None:
        """Interrupt the method; its container stays warm."""
        with deferred():
            self._future.cancel()

    async def _cancel_aio(self) -> None:
        self._cancel()

    def done(self) -> bool:
        """Whether there is an outcome."""
        return self._future.done()

    def __await__(self) -> Generator[Any, None, Any]:
        return self._awaited().__await__()

    async def _awaited(self) -> Any:
        """The value. Cancelling the task that awaits it interrupts the method."""
        import asyncio

        waiting = self._waiting()
        try:
            await asyncio.wait([waiting])
        except asyncio.CancelledError:
            with deferred():
                waiting.cancel()
            raise
        return self._get()  # a call that was cancelled is no cancellation of this task

    def _waiting(self) -> asyncio.Future[Any]:
        """Its future, as one of the running loop's."""
        import asyncio

        waiting = asyncio.wrap_future(self._future)
        waiting.add_done_callback(_noted)
        return waiting

    def __repr__(self) -> str:
        state = "running"
        if self._future.done():
            state = "cancelled" if self._future.cancelled() else "done"
        return f"<call of {self._where}: {state}; .get() or await it>"


def _noted(waiting: asyncio.Future[Any]) -> None:
    """Or else asyncio complains of an exception that nobody asked its own future for."""
    if not waiting.cancelled():
        waiting.exception()


def gather(*calls: FunctionCall) -> list[Any]:
    """Wait for calls that were started: their values in their order.

    The first exception is raised at once, and the calls that still run are cancelled.

    >>> gather(model.predict.spawn(1), model.predict.spawn(2))  # doctest: +SKIP
    [1, 2]
    """
    from concurrent.futures import FIRST_EXCEPTION, wait

    futures = [call._future for call in calls]
    try:
        wait(futures, return_when=FIRST_EXCEPTION)
        for call, future in zip(calls, futures, strict=True):
            if future.done() and (future.cancelled() or future.exception() is not None):
                call.get()
        return [future.result() for future in futures]
    except BaseException:
        with deferred():
            for future in futures:
                future.cancel()
        raise


async def _gather_aio(*calls: FunctionCall) -> list[Any]:
    """`gather` for coroutines."""
    import asyncio

    try:
        return list(await asyncio.gather(*calls))
    except BaseException:
        for call in calls:
            call.cancel()
        raise


FunctionCall.gather = Way(gather, _gather_aio)
