"""The event loop on which coroutines of the user's code run.

It is created when the first coroutine needs it. The main thread runs it only while it waits for a
coroutine, or, with ``@concurrent``, until all lanes have ended.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from lifecycle_magic.guest import forks
from lifecycle_magic.guest.handover import Handover
from lifecycle_magic.guest.interrupts import InterruptTarget
from lifecycle_magic.wire.frames import Channel, Frame

__all__ = ["UserLoop"]


class UserLoop:
    """The event loop of one worker.

    ``idle_tasks`` returns the tasks that have nothing to do until the container stops.
    """

    def __init__(self, idle_tasks: Callable[[], set[Any]]) -> None:
        self.runs_by_itself = False  # on the main thread, for lanes on other threads
        self._idle_tasks = idle_tasks
        self._loop: Any = None

    def next_frame(self, channel: Channel) -> Frame | None:
        """Return the next frame. Tasks that a coroutine left behind continue to run meanwhile."""
        if not channel.has_buffered:
            self.run_until_readable(channel)
        return channel.receive()

    def run_until_readable(self, source: Channel | Handover) -> None:
        """Run the tasks that a coroutine left behind until ``source`` can be read.

        Return at once if there are none, or if the loop runs by itself.
        """
        if self._loop is None or self.runs_by_itself:
            return
        import asyncio

        from lifecycle_magic.guest import coroutines

        if asyncio.all_tasks(self._loop) - self._idle_tasks():
            loop = self._loop
            readable = loop.create_future()
            source.watch(loop, lambda: readable.done() or readable.set_result(None))
            try:
                coroutines.run_until(loop, readable)
            finally:
                loop.remove_reader(source)

    def wait(self, awaitable: Any, target: InterruptTarget) -> Any:
        """Run ``awaitable`` of the user's code to its end, interruptible through ``target``.

        Return its value.
        """
        with target:  # an interrupted import would break every later import
            from lifecycle_magic.guest import coroutines

            loop = self._event_loop()
        if self.runs_by_itself:
            return coroutines.run_from_thread(loop, awaitable, target)
        return coroutines.run_on_this_thread(loop, awaitable, target)

    def start_task(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a coroutine on the loop that runs by itself, in this thread's context."""
        loop = self._loop
        loop.call_soon_threadsafe(lambda: loop.create_task(function()))

    def run_by_itself(self, start: Callable[[Callable[[], None]], None]) -> None:
        """Run the loop on this thread until other threads call what ``start`` gets.

        ``start(stop)`` starts those threads.
        """
        import asyncio

        loop = self._event_loop()
        self.runs_by_itself = True
        is_stopped = False

        def stop() -> None:
            nonlocal is_stopped
            is_stopped = True
            loop.call_soon_threadsafe(loop.stop)

        start(stop)
        asyncio.set_event_loop(loop)
        while not is_stopped:
            try:
                loop.run_forever()
            except (KeyboardInterrupt, SystemExit):
                continue  # raised by a task, whose lane handles it
        self.runs_by_itself = False

    def close(self) -> None:
        """Cancel the tasks that are left, and close the loop if there is one."""
        if self._loop is None:
            return
        import asyncio

        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _event_loop(self) -> Any:
        if self._loop is None:
            import asyncio

            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
            forks.close_in_child(functools.partial(_close_in_child, self._loop))
        return self._loop


def _close_in_child(loop: Any) -> None:
    """Close the parent's event loop in a forked child.

    The epoll set is the parent's too, so nothing may be unregistered from it.
    """
    for owned in (loop._selector, loop._ssock, loop._csock):
        owned.close()
    asyncio = sys.modules["asyncio"]
    asyncio.set_event_loop(None)
