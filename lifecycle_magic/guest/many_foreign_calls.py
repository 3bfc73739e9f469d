"""``.map``, ``.starmap`` and ``.for_each`` of another class, from inside a container.

At most `WINDOW` inputs are on their way at a time. The pool in the kernel spreads them over its
containers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any

from lifecycle_magic.callers.internal_frames import hidden
from lifecycle_magic.callers.many_calls import Arguments, ManyCalls, MapRequest
from lifecycle_magic.guest.session_answers import Wait
from lifecycle_magic.guest.session_connection import Answer
from lifecycle_magic.wire.frames import Kind

if TYPE_CHECKING:
    from lifecycle_magic.guest.foreign_calls import ForeignCall

    Start = Callable[[tuple[Any, ...], dict[str, Any]], ForeignCall]

__all__ = ["ManyForeignCalls"]

WINDOW = 256
"""Inputs that are sent before the first of them has returned."""

_DONE = Answer(Kind.END)


class ManyForeignCalls(ManyCalls):
    """The calls of one method with many inputs. ``start`` starts one of them.

    ``progress`` is accepted: there is no bar inside a container.
    """

    def __init__(self, start: Start) -> None:
        super().__init__(
            lambda request: _Run(start, request).results(request.inputs()),
            lambda request: _Run(start, request).results_async(request.inputs_async()),
        )


class _Step(Enum):
    """The next event that a map waits for."""

    INPUT = "input"
    END_OF_CALL = "end of call"


class _Run:
    """One map: the calls that run, in the order of their inputs, and those that have ended."""

    def __init__(self, start: Start, request: MapRequest) -> None:
        self._start = start
        self._ordered = request.ordered
        self._return_exceptions = request.return_exceptions
        self._running: dict[ForeignCall, None] = {}
        self._ended: deque[ForeignCall] = deque()
        self._on_end: Callable[[], object] = lambda: None

    def _begin(self, row: Arguments) -> None:
        call = self._start(*row)
        self._running[call] = None

        def on_end(_: object) -> None:
            self._ended.append(call)
            self._on_end()

        call._future.add_done_callback(on_end)

    def _next_ended(self) -> ForeignCall | None:
        """Return the call whose value comes next, if it has ended."""
        if self._ordered:
            first = next(iter(self._running), None)
            return first if first is not None and first.done() else None
        return self._ended.popleft() if self._ended else None

    def _take(self, call: ForeignCall) -> Any:
        del self._running[call]
        try:
            return call.get(0)
        except Exception as error:
            if not self._return_exceptions:
                raise
            return error

    def _cancel(self) -> None:
        for call in self._running:
            call.cancel()

    def _steps(self) -> Generator[_Step | ForeignCall, Arguments | None, None]:
        """Yield what to do next: a step, or a call whose value to hand on.

        `_Step.INPUT` is answered with the arguments of the next input, None after the last one.
        """
        is_over = False
        while True:
            call = self._next_ended()
            if call is not None:
                yield call
            elif not is_over and len(self._running) < WINDOW:
                row = yield _Step.INPUT
                is_over = row is None
                if row is not None:
                    self._begin(row)
            elif self._running:
                yield _Step.END_OF_CALL
            else:
                return

    def results(self, rows: Iterator[Arguments]) -> Iterator[Any]:
        """Yield the values."""
        with hidden:
            steps = self._steps()
            try:
                step = next(steps, None)
                while step is not None:
                    row = None
                    if step is _Step.INPUT:
                        row = next(rows, None)
                    elif step is _Step.END_OF_CALL:
                        self._wait()
                    else:
                        yield self._take(step)
                    step = _advance(steps, row)
            finally:
                self._cancel()

    async def results_async(
        self, rows: Iterator[Arguments] | AsyncIterator[Arguments]
    ) -> AsyncIterator[Any]:
        """Yield the values, without blocking the event loop."""
        import asyncio

        with hidden:
            loop = asyncio.get_running_loop()
            ended = asyncio.Event()
            self._on_end = lambda: loop.call_soon_threadsafe(ended.set)
            steps = self._steps()
            try:
                step = next(steps, None)
                while step is not None:
                    row = None
                    if step is _Step.INPUT:
                        row = await _next_row(rows)
                    elif step is _Step.END_OF_CALL:
                        await ended.wait()
                        ended.clear()
                    else:
                        yield self._take(step)
                    step = _advance(steps, row)
            finally:
                self._cancel()

    def _wait(self) -> None:
        """Wait until a value can be taken."""
        waiting = Wait()
        self._on_end = lambda: waiting.receive(_DONE)
        if self._next_is_running():
            waiting.wait()

    def _next_is_running(self) -> bool:
        """Return whether no value can be taken yet."""
        if self._ordered:
            return not next(iter(self._running)).done()
        return not self._ended


def _advance(
    steps: Generator[_Step | ForeignCall, Arguments | None, None], row: Arguments | None
) -> _Step | ForeignCall | None:
    """Return the next step, None after the last one."""
    try:
        return steps.send(row)
    except StopIteration:
        return None


async def _next_row(rows: Iterator[Arguments] | AsyncIterator[Arguments]) -> Arguments | None:
    if isinstance(rows, Iterator):
        return next(rows, None)
    try:
        return await rows.__anext__()
    except StopAsyncIteration:
        return None
