"""HTTP requests on a lane.

If the main thread runs the lane, it runs the application's coroutine to its end like any other.
With ``@concurrent`` the event loop runs by itself, and the lane is *lent* to it: the loop answers
the request, and reads and answers those that follow, so that no request has to cross a thread.
Meanwhile the lane's thread waits for sync functions of the user's code
(`lifecycle_magic.guest.main_thread`), and for the first frame that is no request.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

from lifecycle_magic.exception import WireError
from lifecycle_magic.guest.asgi_connection import AsgiConnection, resolve
from lifecycle_magic.guest.failures import format_error
from lifecycle_magic.wire.frames import Frame, Kind
from lifecycle_magic.wire.pickling import dumps, loads

if TYPE_CHECKING:
    from lifecycle_magic.guest.lane import Lane
    from lifecycle_magic.guest.worker import Worker

_IGNORED = (Kind.PUSH, Kind.STOP)  # for a request that is over


class WebRequest:
    """One request on a lane, from its frame to its END."""

    def __init__(self, lane: Lane, worker: Worker, frame: Frame) -> None:
        assert worker.applications is not None
        self.call, name, (scope, first), _ = loads(frame.payload, buffers=frame.buffers)
        self.exchange = AsgiConnection(lane, scope, first)
        self.app, self.is_async = worker.applications.find(name, self.exchange)
        self._lane = lane
        self._worker = worker
        lane.start_call(self.call)
        worker.kept_frames = None
        lane.has_reader = True

    def answer_here(self) -> None:
        """Answer the request on the lane's thread."""
        target = self._lane.target
        try:
            target.begin(self.call)
            if self.is_async:
                self._worker.loop.wait(self._run(), target)
            else:
                self.app(self.exchange)
            target.end()
        except BaseException as error:
            self._lane.end_interruptible()
            self._fail(error)
        else:
            self._finish()

    async def answer_on_loop(self) -> None:
        """Answer the request on the loop that runs by itself. Raises nothing."""
        loop, target = asyncio.get_running_loop(), self._lane.target
        failure: BaseException | None = None
        try:
            target.begin(self.call)
            task = loop.create_task(self._run())
            target.cancel_task = functools.partial(loop.call_soon_threadsafe, task.cancel)
            await asyncio.wait([task])
            if task.cancelled():
                is_interrupt = target.cancel_task is None  # taken by the interrupt
                failure = KeyboardInterrupt() if is_interrupt else asyncio.CancelledError()
            else:
                failure = task.exception()
        except KeyboardInterrupt as early:  # it was is_interrupt for before it began
            failure = early
        target.cancel_task = None
        target.end()
        if failure is None:
            self._finish()
        else:
            self._fail(failure)

    async def _run(self) -> None:
        try:
            await self.app(self.exchange.scope, self.exchange.receive, self.exchange.send)
        finally:
            self.exchange.close()

    def _finish(self) -> None:
        lane = self._lane
        lane.flush()
        lane.has_reader = False
        lane.target.mark_answered(self.call)
        held_back = self.exchange.take_held_back()
        lane.send(Kind.END, *(dumps(held_back) if held_back else ()))

    def _fail(self, error: BaseException) -> None:
        """Send ``error`` to the kernel, which has the sources and shows it.

        Here it only goes to the log.
        """
        lane = self._lane
        lane.target.mark_answered(self.call)
        self.exchange.flush()
        if isinstance(error, Exception) and not self.exchange.has_client_left:
            lane.flush()
            self._worker.outputs[1].log(format_error(error))
        lane.send_failure(error)


def serve(lane: Lane, worker: Worker, frame: Frame) -> Frame | None:
    """Answer the request in ``frame``, and return the next frame that is no request."""
    request = WebRequest(lane, worker, frame)
    if not (worker.loop.runs_by_itself and request.is_async):
        request.answer_here()
        return lane.next_frame()
    following: Frame | None = None

    async def serve_on_loop() -> None:
        nonlocal following
        try:
            following = await _serve_on_loop(lane, worker, request)
        finally:
            lane.jobs.put(None)

    worker.loop.start_task(serve_on_loop)
    while (job := lane.jobs.get()) is not None:
        job()
    return following


async def _serve_on_loop(lane: Lane, worker: Worker, request: WebRequest) -> Frame | None:
    await request.answer_on_loop()
    while True:
        frame = await _next_frame(lane)
        if frame is None:
            return None
        if frame.kind == Kind.REQUEST:
            following = WebRequest(lane, worker, frame)
            if not following.is_async:
                return frame
            await following.answer_on_loop()
        elif frame.kind not in _IGNORED:
            return frame


async def _next_frame(lane: Lane) -> Frame | None:
    channel = lane.channel
    if not channel.has_buffered:
        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        channel.watch(loop, resolve, readable)
        try:
            await readable
        finally:
            loop.remove_reader(channel)
    try:
        return channel.receive()
    except (OSError, WireError):
        return None
