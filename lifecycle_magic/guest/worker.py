"""The worker: the user's instance, made once, and the lanes that call its methods.

The constructor, ``enter`` and ``exit`` run on this process's main thread, and so does every
method of a class that takes one input at a time. Its coroutines run on one event loop that the
main thread runs while it waits for them, so that a sync method sees no running loop.

With ``@concurrent`` each lane has a thread for sync methods, and the main thread runs the event
loop for all async ones.

A lane ends when its data socket does. The supervisor sees to that whenever the container has
to go; when all lanes have ended, ``exit`` runs.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from lifecycle_magic import hooks
from lifecycle_magic.guest import modules
from lifecycle_magic.guest.interrupts import Interrupts, Target
from lifecycle_magic.guest.lane import ENTERING, Lane
from lifecycle_magic.guest.output import Notes, Output, current_lane
from lifecycle_magic.wire import begun, turns
from lifecycle_magic.wire.begun import Begun
from lifecycle_magic.wire.frames import Channel, Frame, Kind
from lifecycle_magic.wire.messages import Setup
from lifecycle_magic.wire.pickling import loads
from lifecycle_magic.wire.turns import Turns

if TYPE_CHECKING:
    from lifecycle_magic.guest.web import Applications
    from lifecycle_magic.marks import WebMarks

    Web = tuple[tuple[str, WebMarks], ...]


class Worker:
    """One instance and its lanes. ``notes`` and ``cancels`` are pipes to and from the
    supervisor, ``run`` is the run folder.
    """

    def __init__(self, channels: list[Channel], notes: int, cancels: int, run: str) -> None:
        self.instance: Any = None
        self.applications: Applications | None = None  # where methods answer HTTP
        self._channels = channels
        self._turns = [_turns(run, slot) for slot in range(len(channels))]
        self._run = run
        self._begun = _begun(run, len(channels))
        self._interrupts = Interrupts(cancels)
        self._notes = Notes(notes, self._interrupts)
        self.loop_runs_by_itself = False  # on the main thread, for lanes on other threads
        self._loop: Any = None
        self._exit: tuple[str, ...] = ()
        self._lanes: list[Lane] = []
        self.outputs = (
            Output("stdout", 1, self._notes, self._lanes),
            Output("stderr", 2, self._notes, self._lanes),
        )
        sys.stdout, sys.stderr = self.outputs

    def run(self) -> None:
        """From the setup frame to the last exit hook."""
        first = self._lane(0)
        self._lanes.append(first)
        if self._set_up(first):
            self._notes.tell("entered")
            if len(self._channels) == 1:
                first.serve()
            else:
                self._serve_many()
            self._leave()
        for output in self.outputs:
            output.flush()
        self._notes.tell("done")

    def _lane(self, slot: int) -> Lane:
        """A lane of the thread that asks."""
        begins = functools.partial(self._begun.note, slot) if self._begun else lambda _: None
        channel, turns = self._channels[slot], self._turns[slot]
        return Lane(channel, self, self._interrupts, turns, begins)

    # --- enter -----------------------------------------------------------------------------

    def _set_up(self, lane: Lane) -> bool:
        """Make the instance and run ``enter``; whether both went well. The kernel hears which."""
        frame = lane.channel.receive()
        if frame is None or frame.kind != Kind.SETUP:
            return False
        lane.attended = True
        target = lane.target
        token = current_lane.set(lane)
        try:
            target.begin(ENTERING)
            setup: Setup = loads(frame.payload)
            os.environ.update(setup.env)
            for channel in self._channels:
                if channel.shared is not None:
                    channel.shared.limit = setup.shared_limit // len(self._channels)
            modules.offer(self._run)
            cls = loads(setup.cls)
            args, kwargs = loads(setup.arguments)
            self.instance = hooks.instantiate(cls, args, kwargs)
            for name in setup.enter:
                value = getattr(self.instance, name)()
                if isinstance(value, types.CoroutineType):
                    self.wait(value, target)
            if setup.web:
                self.applications = self._start(setup.web, target)
            target.end()
        except BaseException as error:
            lane.over()
            lane.fail(error)
            return False
        finally:
            current_lane.reset(token)
        self._exit = setup.exit
        lane.flush()
        lane.attended = False
        lane.send(Kind.READY)  # to nobody, perhaps; but what has entered will exit
        return True

    def _start(self, web: Web, target: Target) -> Applications:
        from lifecycle_magic.guest.web import Applications

        applications = Applications(self)
        applications.start(web, target)
        return applications

    # --- methods ---------------------------------------------------------------------------

    def _serve_many(self) -> None:
        """A thread per lane; the main thread runs the event loop until the last of them ended."""
        import asyncio

        loop = self._event_loop()
        self.loop_runs_by_itself = True
        left = len(self._channels)
        lock = threading.Lock()

        def serve(slot: int) -> None:
            nonlocal left
            lane = self._lane(slot)
            self._lanes.append(lane)
            try:
                lane.serve()
            finally:
                with lock:
                    left -= 1
                    if not left:
                        loop.call_soon_threadsafe(loop.stop)

        self._interrupts.targets.clear()
        self._lanes.clear()
        for slot in range(left):
            threading.Thread(target=serve, args=(slot,), name="lane", daemon=True).start()
        asyncio.set_event_loop(loop)
        loop.run_forever()
        self.loop_runs_by_itself = False

    def next_frame(self, channel: Channel) -> Frame | None:
        """The next frame. Tasks that a coroutine left behind go on running meanwhile."""
        if self._loop is not None and not self.loop_runs_by_itself and not channel.buffered:
            import asyncio

            if asyncio.all_tasks(self._loop) - self._waiting_tasks():
                loop = self._loop
                readable = loop.create_future()
                channel.watch(loop, lambda: readable.done() or readable.set_result(None))
                try:
                    loop.run_until_complete(readable)
                finally:
                    loop.remove_reader(channel)
        return channel.receive()

    def _waiting_tasks(self) -> set[Any]:
        return self.applications.waiting_tasks if self.applications is not None else set()

    def wait(self, awaitable: Any, target: Target) -> Any:
        """Run what the user's code awaits to its end, interruptible as ``target``; its value."""
        import asyncio

        loop = self._event_loop()

        if self.loop_runs_by_itself:
            return self._wait_from_thread(awaitable, target)
        is_coroutine = isinstance(awaitable, types.CoroutineType)
        coroutine = awaitable if is_coroutine else _awaiting(awaitable)
        task = loop.create_task(coroutine)
        target.cancel_task = lambda: loop.call_soon_threadsafe(task.cancel)
        try:
            return loop.run_until_complete(task)
        except asyncio.CancelledError:
            if target.cancel_task is None:  # taken: it was our interrupt
                raise KeyboardInterrupt from None
            raise
        finally:
            target.cancel_task = None

    def _wait_from_thread(self, awaitable: Any, target: Target) -> Any:
        """`wait` on a lane's thread, while the main thread runs the loop."""
        import asyncio

        loop = self._loop
        tasks: list[Any] = []

        async def run() -> Any:
            tasks.append(asyncio.current_task())
            return await awaitable

        def cancel() -> None:
            for task in tasks:
                task.cancel()

        future = asyncio.run_coroutine_threadsafe(run(), loop)
        target.cancel_task = lambda: loop.call_soon_threadsafe(cancel)
        try:
            return future.result()
        except BaseException as error:
            asked = target.cancel_task is None
            # asyncio's CancelledError and that of concurrent.futures are two classes.
            if asked and type(error).__name__ == "CancelledError":
                raise KeyboardInterrupt from None
            raise
        finally:
            target.cancel_task = None

    def run_on_loop(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have the loop that runs by itself run a coroutine, in this thread's context."""
        loop = self._loop
        loop.call_soon_threadsafe(lambda: loop.create_task(function()))

    def _event_loop(self) -> Any:
        if self._loop is None:
            import asyncio

            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop

    def swap(self, cls: type, exit: tuple[str, ...], web: Web) -> None:
        """Put new code under the live instance: same ``self``, same state, other methods."""
        before = type(self.instance)
        self.instance.__class__ = cls
        if self.applications is not None or web:
            try:
                if self.applications is None:
                    self.applications = self._start((), self._lanes[0].target)
                self.applications.swap(web)
            except BaseException:
                self.instance.__class__ = before
                raise
        self._exit = exit

    # --- exit ------------------------------------------------------------------------------

    def _leave(self) -> None:
        """Run every exit hook, each whatever the ones before it did."""
        signal.signal(signal.SIGINT, lambda *_: None)
        self._notes.tell("exiting")
        target = Target(self._interrupts)
        for name, hook in self._last_things():
            began = time.monotonic()
            error = None
            try:
                value = hook()
                if isinstance(value, types.CoroutineType):
                    self.wait(value, target)
            except BaseException as raised:
                from lifecycle_magic.guest.failures import told

                error = told(raised)
                self.outputs[1].write(error)
            self._notes.tell("exit", hook=name, seconds=time.monotonic() - began, error=error)
        if self._loop is not None:
            self._close_loop()

    def _last_things(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """What runs at the end, by name: what came up last goes first."""
        if self.applications is not None:
            yield from self.applications.shut_down()
        for name in self._exit:
            yield name, getattr(self.instance, name)

    def _close_loop(self) -> None:
        import asyncio

        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


def _turns(run: str, slot: int) -> Turns | None:
    try:
        return Turns(turns.path(run, slot))
    except OSError:
        return None  # the kernel is on another machine, or this user may not


def _begun(run: str, slots: int) -> Begun | None:
    try:
        page = Begun(begun.path(run), slots)
    except OSError:
        return None  # as above
    for slot in range(slots):
        page.note(slot, begun.NONE)
    return page


async def _awaiting(awaitable: Any) -> Any:
    return await awaitable


def main(channels: list[Channel], notes: int, cancels: int, run: str) -> int:
    """Run the worker in this process and return its exit code. Called in the forked child."""
    # What the user's code imports and pickles as __main__ must not be our start-up script.
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.argv = [""]
    hooks._remote = True
    import cloudpickle  # noqa: F401  # the class will need it; the kernel is still busy with us

    Worker(channels, notes, cancels, run).run()
    return 0
