"""How a lane answers requests.

Where the main thread runs the lane, it runs the application's coroutine to its end, as it does
with any. With ``@concurrent`` the event loop runs by itself, and there the lane is *lent* to it:
the loop answers the request, and reads and answers those that follow, so that none has to cross a
thread. The lane's thread waits meanwhile for sync functions of the user's
(`lifecycle_magic.guest.handover`), and for the first frame that is no request.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

from lifecycle_magic.exception import WireError
from lifecycle_magic.guest.exchange import Exchange, resolve
from lifecycle_magic.guest.failures import told
from lifecycle_magic.wire.frames import Frame, Kind
from lifecycle_magic.wire.pickling import dumps, loads

if TYPE_CHECKING:
    from lifecycle_magic.guest.lane import Lane
    from lifecycle_magic.guest.worker import Worker

_IGNORED = (Kind.PUSH, Kind.STOP)  # of a request that is over


class Request:
    """One request on a lane, from its frame to its END."""

    def __init__(self, lane: Lane, worker: Worker, frame: Frame) -> None:
        assert worker.applications is not None
        self.call, name, (scope, first), _ = loads(frame.payload, buffers=frame.buffers)
        self.exchange = Exchange(lane, scope, first)
        self.app, self.is_async = worker.applications.find(name, self.exchange)
        self._lane = lane
        self._worker = worker
        lane.take_up(self.call)
        lane.attended = True

    def answer_here(self) -> None:
        """Answer it on the lane's thread."""
        target = self._lane.target
        try:
            target.begin(self.call)
            if self.is_async:
                self._worker.wait(self._run(), target)
            else:
                self.app(self.exchange)
            target.end()
        except BaseException as error:
            self._lane.over()
            self._fail(error)
        else:
            self._finish()

    async def answer_on_loop(self) -> None:
        """Answer it on the loop that runs by itself. Raises nothing."""
        loop, target = asyncio.get_running_loop(), self._lane.target
        failure: BaseException | None = None
        try:
            target.begin(self.call)
            task = loop.create_task(self._run())
            target.cancel_task = functools.partial(loop.call_soon_threadsafe, task.cancel)
            await asyncio.wait([task])
            if task.cancelled():
                asked = target.cancel_task is None  # taken: it was our interrupt
                failure = KeyboardInterrupt() if asked else asyncio.CancelledError()
            else:
                failure = task.exception()
        except KeyboardInterrupt as early:  # it was asked for before it began
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
        lane.attended = False
        lane.target.answered(self.call)
        kept = self.exchange.take_kept()
        lane.send(Kind.END, *(dumps(kept) if kept else ()))

    def _fail(self, error: BaseException) -> None:
        """Tell the kernel, which has the sources and shows it; here it is for the log alone."""
        lane = self._lane
        lane.target.answered(self.call)
        self.exchange.flush()
        if isinstance(error, Exception) and not self.exchange.client_left:
            lane.flush()
            self._worker.outputs[1].log(told(error))
        lane.fail(error)


def serve(lane: Lane, worker: Worker, frame: Frame) -> Frame | None:
    """Answer the request in ``frame``; the next frame that is no request."""
    request = Request(lane, worker, frame)
    if not (worker.loop_runs_by_itself and request.is_async):
        request.answer_here()
        return lane.next_frame()
    following: Frame | None = None

    async def lent() -> None:
        nonlocal following
        try:
            following = await _serve_on_loop(lane, worker, request)
        finally:
            lane.jobs.put(None)

    worker.run_on_loop(lent)
    while (job := lane.jobs.get()) is not None:
        job()
    return following


async def _serve_on_loop(lane: Lane, worker: Worker, request: Request) -> Frame | None:
    await request.answer_on_loop()
    while True:
        frame = await _next_frame(lane)
        if frame is None:
            return None
        if frame.kind == Kind.REQUEST:
            following = Request(lane, worker, frame)
            if not following.is_async:
                return frame
            await following.answer_on_loop()
        elif frame.kind not in _IGNORED:
            return frame


async def _next_frame(lane: Lane) -> Frame | None:
    channel = lane.channel
    if not channel.buffered:
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
