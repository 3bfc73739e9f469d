"""The `FunctionCall`: the user's handle of a call that was started without waiting for it.

It only knows the call's future. Running the call and reading its reply is done by
`lifecycle_magic.calls.detached`, or by a batch.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from lifecycle_magic.callers import started_calls
from lifecycle_magic.callers.internal_frames import hidden, strip
from lifecycle_magic.callers.methods_with_aio import items_with_aio, static_with_aio, with_aio
from lifecycle_magic.callers.prompt_queue import PromptQueue, wait_and_ask
from lifecycle_magic.callers.remote_exceptions import blocking_call_error
from lifecycle_magic.callers.with_aio import CallWithAio
from lifecycle_magic.exception import (
    ContainerDied,
    InputCancelled,
    InvalidError,
    RemoteError,
    StartError,
)
from lifecycle_magic.threads.sigint import deferred

if TYPE_CHECKING:
    import asyncio  # imported below where it is used: a class that names the type loads no more

__all__ = ["FunctionCall", "gather"]


T_co = TypeVar("T_co", covariant=True)


_keep: Callable[[Future[Any], str, int], str] | None = None
"""Keeps the outcome of a call in this process's session and returns its id. The session sets it."""


def _check(method: str, of_modal: dict[str, object]) -> None:
    """Explain keywords that mean something in Modal's method only."""
    from lifecycle_magic.modal_api.table import check_keywords

    check_keywords(f"FunctionCall.{method}", of_modal)


def _check_index(index: object) -> None:
    if index != 0:
        raise ValueError(f"Invalid index: {index} for 1 input")


def _no_check(where: str, *, awaits: bool = False) -> None:
    """Accept every wait."""


class Get(Protocol[T_co]):
    """`FunctionCall.get`, and its twin for coroutines."""

    def __call__(self, timeout: float | None = None, *, index: int = 0) -> T_co:
        """Wait for the result."""

    def aio(self, timeout: float | None = None, *, index: int = 0) -> Coroutine[Any, Any, T_co]:
        """Await the result."""


def _from_id(function_call_id: str, client: object = None) -> FunctionCall[Any]:
    """Return the spawned call with this ``object_id``, in any process of this user.

    Raises `NotFoundError` if its session has ended, `InvalidError` for what is no id. ``get``
    raises `NotFoundError` if the session has dropped the outcome. ``client`` means nothing here.

    >>> FunctionCall.from_id(call.object_id).get()  # doctest: +SKIP
    """
    from importlib import import_module  # by name, as this module knows no session

    found: FunctionCall[Any] = import_module("lifecycle_magic.named.spawned_calls").find(
        function_call_id
    )
    return found


class FunctionCall(Generic[T_co]):
    """A call that was started without waiting for its result. ``await`` it, or `get` its value.

    ``get``, ``cancel`` and ``gather`` also exist for coroutines, as ``.aio``.

    >>> call = model.predict.spawn(1)  # doctest: +SKIP
    >>> call.get(timeout=60)  # doctest: +SKIP
    """

    gather: CallWithAio  # `gather`, below
    _object_id = ""
    _number = 0
    prompts: PromptQueue | None = None  # what its method asks the user, where this is waited for

    def __init__(
        self, future: Future[Any], where: str, check_wait: Callable[..., None] = _no_check
    ) -> None:
        """Store a future. ``check_wait(where, awaits=...)`` raises if waiting for it could never
        end.
        """
        self._future = future
        self._where = where
        self._check_wait = check_wait
        self._wanted = False  # its outcome was asked for

    def set_number(self, number: int) -> None:
        """Set the number of its input in this process's session, by which its method knows it."""
        self._number = number
        started_calls.note(number, self._future, self._where)

    @property
    def get(self) -> Get[T_co]:
        """Wait for the call and return its value: ``get(timeout=None)``, with a timeout in
        seconds.
        """
        return CallWithAio(self._get, self._get_aio)

    @property
    def cancel(self) -> CallWithAio:
        """Interrupt the method: ``cancel()``. Its container stays warm."""
        return CallWithAio(self._cancel, self._cancel_aio)

    def _get(self, timeout: float | None = None, *, index: int = 0) -> Any:
        """Wait for the call and return its value, or raise the method's exception.

        ``timeout`` is in seconds. Raises `TimeoutError` when it is over; the call then continues.
        `InputCancelled` if the call was cancelled. Interrupting the wait interrupts the method.
        ``index`` can only be 0: a call has one input.
        """
        __tracebackhide__ = True
        _check_index(index)
        self._wanted = True
        if timeout is None and not self._future.done():
            self._check_wait(self._where)
        try:
            return self._outcome(timeout)
        except RemoteError as error:
            raised = blocking_call_error(error)
            if raised is error:
                raise
        raise raised  # here, where no handled exception would become its context

    def _outcome(self, timeout: float | None = None) -> Any:
        """Return or raise what `_get` does, without rebuilding the exception as the method raised
        it.
        """
        try:
            if self.prompts is not None and not self._future.done():
                wait_and_ask([self._future], [self.prompts], timeout)
                return self._future.result(0)  # or it raises the error of the timeout
            return self._future.result(timeout)
        except CancelledError:
            if not self._future.cancelled():
                raise  # the method's own
            raise InputCancelled(f"{self._where} was cancelled") from None
        except FutureTimeout:
            if self._future.done():
                raise  # the method's own
            raise self._timeout_error(timeout) from None
        except KeyboardInterrupt:
            self._cancel()
            raise

    async def _get_aio(self, timeout: float | None = None, *, index: int = 0) -> Any:
        """Do what `_get` does, for coroutines. Cancelling the waiting task does not affect the
        call.
        """
        _check_index(index)
        import asyncio

        with hidden:
            self._wanted = True
            if timeout is None and not self._future.done():
                self._check_wait(self._where, awaits=True)
            with self._attended():
                done, _ = await asyncio.wait([self._asyncio_future()], timeout=timeout)
            if not done:
                raise self._timeout_error(timeout)
            return self._outcome()

    def _timeout_error(self, timeout: float | None) -> TimeoutError:
        return TimeoutError(f"{self._where} has not returned within {timeout:g} s; it continues")

    def _cancel(self, terminate_containers: bool = False) -> None:
        """Interrupt the method; its container stays warm."""
        if terminate_containers:
            _check("cancel", {"terminate_containers": True})
        self._wanted = True
        with deferred():
            self._future.cancel()

    async def _cancel_aio(self, terminate_containers: bool = False) -> None:
        self._cancel(terminate_containers)

    @with_aio
    def num_inputs(self) -> int:
        """Return how many inputs the call has: one."""
        return 1

    @items_with_aio
    def iter(self, *, start: int = 0, end: int | None = None) -> Iterator[T_co]:
        """Yield the value of the call, if its only input is in the range. Raises `ValueError` for a
        range of other inputs.
        """
        last = 1 if end is None else end
        if start < 0 or last > 1:
            raise ValueError(f"Invalid index range: {start} to {end} for 1 input")
        if start < last:
            yield self.get()

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_id, (self.object_id,)

    @property
    def object_id(self) -> str:
        """The id of the call, by which `from_id` finds it, also in another process.

        The session that runs the call keeps the outcomes of the last 256 calls, and at most 64 MB
        of them. Raises `InvalidError` for a call that no session runs any more.
        """
        self._wanted = True  # who has the id may ask for the outcome
        if not self._object_id:
            if _keep is None:
                raise InvalidError(f"{self._where}: the call has no id, as no session runs it")
            self._object_id = _keep(self._future, self._where, self._number)
        return self._object_id

    @object_id.setter
    def object_id(self, id: str) -> None:
        self._object_id = id

    from_id = static_with_aio(_from_id)

    @with_aio
    def hydrate(self, client: object = None) -> FunctionCall[T_co]:
        """Return the call, which has been started."""
        return self

    if not TYPE_CHECKING:  # otherwise every name would exist for a type checker

        def __getattr__(self, name: str) -> Any:
            if not name.startswith("_"):
                from lifecycle_magic.modal_api.table import refuse

                refuse("FunctionCall", name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def done(self) -> bool:
        """Return whether the call has ended: with a value, with an exception, or cancelled."""
        return self._future.done()

    def __await__(self) -> Generator[Any, None, T_co]:
        self._wanted = True
        return self._awaited().__await__()

    async def _awaited(self) -> Any:
        """Return the value. Cancelling the task that awaits it interrupts the method."""
        import asyncio

        with hidden:
            if not self._future.done():
                self._check_wait(self._where, awaits=True)
            waiting = self._asyncio_future()
            try:
                with self._attended():
                    await asyncio.wait([waiting])
            except asyncio.CancelledError:
                with deferred():
                    waiting.cancel()
                raise
            return self._outcome()  # a cancelled call does not cancel this task

    def _asyncio_future(self) -> asyncio.Future[Any]:
        """Return the call's future as a future of the running loop."""
        import asyncio

        waiting = asyncio.wrap_future(self._future)
        waiting.add_done_callback(_mark_retrieved)
        return waiting

    def _attended(self) -> AbstractContextManager[None]:
        """Ask the user in the running loop meanwhile, if the method asks."""
        if self.prompts is None:
            return nullcontext()
        import asyncio

        return self.prompts.attended_by(asyncio.get_running_loop())

    _is_finalizing = staticmethod(sys.is_finalizing)

    def __del__(self) -> None:
        # Nobody can ask any more, except by the id. An exception would be lost without a trace.
        # At the interpreter's end this module has no names any more.
        if self.__dict__.get("_wanted", True) or self._is_finalizing():
            return
        self._future.add_done_callback(functools.partial(_report_lost, self._where))

    def _state(self) -> str:
        if not self._future.done():
            return "running"
        return "cancelled" if self._future.cancelled() else "done"

    def __repr__(self) -> str:
        return f"<call of {self._where}: {self._state()}; to get its value, .get() or await it>"


_REPORTED = (ContainerDied, InputCancelled, StartError)
"""Errors of a call that the card, the terminal and the history show anyway."""


def _report_lost(where: str, future: Future[Any]) -> None:
    """Print the exception of a call whose result no code can ask for."""
    error = None if future.cancelled() else future.exception()
    if error is None or isinstance(error, _REPORTED) or sys.is_finalizing():
        return
    import traceback

    raised = blocking_call_error(error) if isinstance(error, RemoteError) else error
    text = "".join(traceback.format_exception(strip(raised)))
    where = where.removesuffix("().call")  # a function
    sys.stderr.write(f"{where}, which .spawn() started, raised an exception:\n{text}")


def _mark_retrieved(waiting: asyncio.Future[Any]) -> None:
    """Read the exception. Otherwise asyncio reports that it was never retrieved."""
    if not waiting.cancelled():
        waiting.exception()


def gather(*calls: FunctionCall[Any]) -> list[Any]:
    """Wait for several started calls, and return their values in the order of the calls.

    Raises the first exception at once, and cancels the calls that still run.

    >>> gather(model.predict.spawn(1), model.predict.spawn(2))  # doctest: +SKIP
    [1, 2]
    """
    with hidden:
        return _gather(*calls)


def _gather(*calls: FunctionCall[Any]) -> list[Any]:
    from concurrent.futures import FIRST_EXCEPTION, wait

    for call in calls:
        if not isinstance(call, FunctionCall):
            raise TypeError(
                f"gather takes calls that .spawn() returned, not {call!r:.60}. "
                "Fix: write gather(*calls) for a list of calls"
            )
    futures = [call._future for call in calls]
    for call in calls:
        call._wanted = True
        if not call.done():
            call._check_wait(call._where)
    queues = [call.prompts for call in calls if call.prompts is not None]
    try:
        if queues:
            wait_and_ask(futures, queues)
        else:
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


async def _gather_aio(*calls: FunctionCall[Any]) -> list[Any]:
    """Do what `gather` does, for coroutines."""
    import asyncio

    with hidden:
        try:
            return list(await asyncio.gather(*calls))
        except BaseException:
            for call in calls:
                call.cancel()
            raise


_gather.__doc__ = gather.__doc__
FunctionCall.gather = CallWithAio(_gather, _gather_aio)
