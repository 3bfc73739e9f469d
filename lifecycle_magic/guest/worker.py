"""The worker: the user's instance, created once, and the lanes that call its methods.

The constructor, ``enter`` and ``exit`` run on this process's main thread, and so does every method
of a class that takes one input at a time. Its coroutines run on one event loop (`UserLoop`). The
main thread runs that loop only while it waits for a coroutine, so that a sync method sees no
running loop. With ``@concurrent`` each lane has a thread for sync methods, and the main thread runs
the loop for all async ones.

A lane ends when its data socket ends and the supervisor passes no other one. The supervisor shuts
the sockets when the container has to stop. When all lanes have ended, ``exit`` runs.
"""

from __future__ import annotations

import contextvars
import functools
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from lifecycle_magic.decorators import current_call, parameters
from lifecycle_magic.guest import (
    forks,
    modules,
    own_methods,
    print_buffer,
    session_address,
    standard_input,
)
from lifecycle_magic.guest.descriptor_output import DescriptorOutput
from lifecycle_magic.guest.environment import set_variables
from lifecycle_magic.guest.interrupts import SIGNAL, InterruptHandler, InterruptTarget
from lifecycle_magic.guest.lane import ENTERING, Lane, explain_arguments
from lifecycle_magic.guest.output import Output, SupervisorPipe, current_lane
from lifecycle_magic.guest.pipes import Pipes
from lifecycle_magic.guest.print_buffer import PrintBuffer
from lifecycle_magic.guest.processes import descendants
from lifecycle_magic.guest.user_code import UserCode
from lifecycle_magic.guest.user_loop import UserLoop
from lifecycle_magic.wire import begun_page, clock, ticket_fifo
from lifecycle_magic.wire.begun_page import BegunPage
from lifecycle_magic.wire.frames import Channel, Kind
from lifecycle_magic.wire.messages import Adopted, Setup
from lifecycle_magic.wire.pickling import loads
from lifecycle_magic.wire.ticket_fifo import TicketFifo

if TYPE_CHECKING:
    from lifecycle_magic.decorators.marks import WebMarks
    from lifecycle_magic.guest.post_mortem import KeptFrames
    from lifecycle_magic.guest.web import WebApplications
    from lifecycle_magic.wire.host_settings import HostSettings
    from lifecycle_magic.wire.messages import Adopt, Swap

    Web = tuple[tuple[str, WebMarks], ...]


class Worker:
    """One instance and its lanes.

    ``pipes`` lead to and from the supervisor, ``run`` is the run folder.
    """

    def __init__(self, channels: list[Channel], pipes: Pipes, run: str) -> None:
        self.instance: Any = None
        self._code = UserCode()
        self.applications: WebApplications | None = None  # where methods answer HTTP
        self._channels = channels
        self._tickets = [_tickets(run, slot) for slot in range(len(channels))]
        self._run = run
        self._begun = _begun(run, len(channels))
        self._interrupts = InterruptHandler(pipes.cancels_r)
        self._pipe = SupervisorPipe(pipes.notes_w, self._interrupts)
        self.descriptor_output = DescriptorOutput(pipes.reads, self._pipe, pipes.settled_r)
        self._interrupts.signal_again = lambda: self._pipe.send("again")
        self._interrupts.on_stopping = lambda calls: self._pipe.send("stopping", calls=calls)
        self.keeps_frames = False  # of the last exception, for a debugger
        self.kept_frames: KeptFrames | None = None
        self.loop = UserLoop(self._waiting_tasks)
        self._exit: tuple[str, ...] = ()
        self._handover = pipes.handover
        self._has_left_root = False
        self._shared_limit: int | None = None  # bytes of shared memory, per lane
        self._code_now = Adopted(b"", "", "")
        self._lanes: list[Lane] = []
        self.prints = PrintBuffer(pipes.journal, self._pipe)
        self.outputs = (
            Output("stdout", 1, self.prints, self._lanes),
            Output("stderr", 2, self.prints, self._lanes),
        )
        sys.stdout, sys.stderr = self.outputs
        print_buffer.of_worker = self.prints
        standard_input.install(self._lanes)
        forks.close_in_child(self._close_channels_in_child)
        forks.close_in_child(pipes.handover.close_in_child)
        for owned in (self._begun, *self._tickets):
            if owned is not None:
                forks.close_in_child(owned.close)
        for fd in (pipes.notes_w, pipes.cancels_r, pipes.settled_r):
            forks.close_in_child(functools.partial(os.close, fd))

    def run(self) -> None:
        """Run the worker from the setup frame to the last exit hook."""
        first = self._make_lane(0)
        self._lanes.append(first)
        if self._set_up(first):
            if len(self._channels) == 1:
                first.serve()
            else:
                self._serve_many()
            forks.end_child()
            self._run_exit_hooks()
        for output in self.outputs:
            output.flush()
        self._pipe.send("done")

    def _make_lane(self, slot: int) -> Lane:
        """Return a lane of the current thread."""
        record_begun = self._begun.recorder(slot) if self._begun else lambda _: None
        channel, tickets = self._channels[slot], self._tickets[slot]
        lane = Lane(channel, self, self._interrupts, tickets, record_begun)
        lane.slot = slot
        return lane

    def _close_channels_in_child(self) -> None:
        for channel in self._channels:
            channel.close_in_child()

    def report_child(self, pid: int) -> None:
        """Report that a process was started, so that an interrupt of the running call reaches
        it.
        """
        lane = current_lane.get()
        if lane is not None:
            running = [lane.target.current]
        else:  # a thread of the user's code, which belongs to the call if only one runs
            running = [target.current for target in self._interrupts.targets]
        calls = [call for call in running if call is not None]
        call = calls[0] if len(calls) == 1 else ENTERING
        self._pipe.send("child", pid=pid, call=call)

    # --- enter -----------------------------------------------------------------------------

    def _set_up(self, lane: Lane) -> bool:
        """Create the instance and run ``enter``.

        Return whether both succeeded, and report that to the kernel.
        """
        frame = lane.channel.receive()
        if frame is None or frame.kind != Kind.SETUP:
            return False
        lane.has_reader = True
        target = lane.target
        token = current_lane.set(lane)
        try:
            target.begin(ENTERING)
            setup: Setup = loads(frame.payload)
            set_variables(setup.env)
            self.keeps_frames = setup.keeps_frames
            self.prints.is_for_notebook = setup.in_notebook
            session_address.set_session(setup.session, self._run)
            current_call.set_source(setup.session_id, _running_call)
            self._shared_limit = setup.shared_limit // len(self._channels)
            for channel in self._channels:
                self._limit_shared(channel)
            self._apply_host_settings(setup.host_settings)
            cls = self._code.load(setup.cls)
            args, kwargs = _constructor_arguments(setup.arguments)
            self._check_ports(cls.__name__, setup.web)
            self._code_now = Adopted(setup.arguments, setup.key, setup.files)
            self.instance = parameters.instantiate(cls, args, kwargs)
            address = own_methods.InstanceAddress(cls, pickled=setup.arguments)
            own_methods.note_address(self.instance, address)
            if setup.secrets:
                from lifecycle_magic.guest import build_hook

                self.instance = build_hook.searched(self.instance, setup, self._run)
            for name in setup.enter:
                value = getattr(self.instance, name)()
                if isinstance(value, types.CoroutineType):
                    self.loop.wait(value, target)
            forks.end_child()
            if setup.web:
                self.applications = self._start_applications(setup.web, target)
            target.end()
        except BaseException as error:
            from lifecycle_magic.guest.failures import summarize

            lane.end_interruptible()
            lane.settle()
            self._pipe.send("enter failed", error=summarize(error))
            lane.send_failure(error)
            return False
        finally:
            current_lane.reset(token)
        self._exit = setup.exit
        lane.flush()
        lane.settle()
        lane.has_reader = False
        self._report_entered()  # before READY: what calls start is none of it
        lane.send(Kind.READY)  # even if the kernel has exited: exit runs after enter has run
        return True

    def _report_entered(self) -> None:
        """Report what runs now: interrupts of the calls that follow do not reach it."""
        here = descendants(os.getpid())
        self._pipe.send("entered", at=clock.now(), descendants=here)

    def _limit_shared(self, channel: Channel) -> None:
        if channel.shared is not None and self._shared_limit is not None:
            channel.shared.limit = self._shared_limit

    # --- the next kernel -------------------------------------------------------------------

    def take_over(self, lane: Lane) -> bool:
        """Wait until the supervisor passes a lane its connection to another kernel.

        Tasks that a coroutine left behind continue to run meanwhile. Return False if the container
        stops instead.
        """
        if forks.in_child:  # it has returned from the method in which it was forked
            return False
        self._pipe.send("free", slot=lane.slot)
        self.loop.run_until_readable(self._handover)
        passed = self._handover.wait(lane.slot)
        if passed is None:
            return False
        self._limit_shared(passed.channel)
        self._channels[lane.slot] = passed.channel
        lane.follow(passed.channel)
        if passed.calls is not None:
            if self._has_left_root:
                session_address.next_descriptor = passed.calls
            else:
                os.close(passed.calls)
        return True

    def adopt(self, message: Adopt) -> Adopted:
        """Serve another kernel from now on. Return what it has to know of this container."""
        self._interrupts.forget_early()
        self.keeps_frames = message.keeps_frames
        self.kept_frames = None
        session_address.follow_session(message.session, self._run)
        current_call.set_source(message.session_id, _running_call)
        self._report_entered()
        return self._code_now

    def _apply_host_settings(self, settings: HostSettings | None) -> None:
        """Apply the settings of the kernel's machine, and make the modules of the class
        importable.
        """
        account = settings.account if settings is not None else None
        leaves_root = account is not None and not (account.keeps_rights or account.hook)
        self._has_left_root = leaves_root
        modules.add_to_path(self._run, copied=leaves_root)
        if leaves_root:
            session_address.keep_reachable()
        if settings is not None:
            from lifecycle_magic.guest import host_settings

            host_settings.apply(settings, self._run)

    def _check_ports(self, cls: str, web: Web) -> None:
        """Raise if another process listens already on a port on which ``enter`` starts a server."""
        for name, marks in web:
            if marks.by_enter:
                from lifecycle_magic.guest.web import check_free

                check_free(f"{cls}.{name}", marks.port)

    def _start_applications(self, web: Web, target: InterruptTarget) -> WebApplications:
        from lifecycle_magic.guest.web import WebApplications

        applications = WebApplications(self)
        applications.start(web, target)
        return applications

    # --- methods ---------------------------------------------------------------------------

    def _serve_many(self) -> None:
        """Serve each lane on a thread.

        The main thread runs the event loop until all lanes have ended.
        """
        left = len(self._channels)
        lock = threading.Lock()

        def serve(slot: int, stop: Callable[[], None]) -> None:
            nonlocal left
            lane = self._make_lane(slot)
            self._lanes.append(lane)
            try:
                lane.serve()
            finally:
                forks.end_child()
                with lock:
                    left -= 1
                    if not left:
                        stop()

        def start(stop: Callable[[], None]) -> None:
            for slot in range(len(self._channels)):
                # Context variables keep the values that travelled with the class, or of enter.
                run = contextvars.copy_context().run
                args = (serve, slot, stop)
                threading.Thread(target=run, args=args, name="lane", daemon=True).start()

        self._interrupts.targets.clear()
        self._lanes.clear()
        self.loop.run_by_itself(start)

    def _waiting_tasks(self) -> set[Any]:
        return self.applications.waiting_tasks if self.applications is not None else set()

    def swap(self, new: Swap) -> None:
        """Replace the code of the live instance and keep its state. Raises if that is
        impossible.
        """
        undo = self._code.swap(new.cls)
        try:
            if self.applications is not None or new.web:
                if self.applications is None:
                    self.applications = self._start_applications((), self._lanes[0].target)
                self.applications.swap(new.web)
        except BaseException:
            undo()
            raise
        self._exit = new.exit
        self._code_now = self._code_now._replace(key=new.key)

    # --- exit ------------------------------------------------------------------------------

    def _run_exit_hooks(self) -> None:
        """Run every exit hook, whatever the hooks before it raised."""
        for number in (SIGNAL, signal.SIGINT):
            forks.handle(number, lambda *_: None)
        self._pipe.send("exiting")
        self.kept_frames = None
        target = InterruptTarget(self._interrupts)
        for name, hook in self._exit_steps():
            began = time.monotonic()
            error = None
            try:
                value = hook()
                if isinstance(value, types.CoroutineType):
                    self.loop.wait(value, target)
                forks.end_child()
            except BaseException as raised:
                forks.end_child(raised)
                from lifecycle_magic.guest.failures import format_error

                error = format_error(raised)
                self.outputs[1].write(error)
            self._pipe.send("exit", hook=name, seconds=time.monotonic() - began, error=error)
        self.loop.close()

    def _exit_steps(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Yield what runs at the end, by name, in the reverse order of the start."""
        if self.applications is not None:
            yield from self.applications.shut_down()
        for name in self._exit:
            yield name, getattr(self.instance, name)


def _running_call() -> int | None:
    """Return the number of the call whose code runs in this context."""
    lane = current_lane.get()
    return lane.target.current if lane is not None else None


def _constructor_arguments(data: bytes) -> Any:
    """Return the arguments of the constructor."""
    try:
        return loads(data)
    except Exception as error:
        explain_arguments(error)
        raise


def _tickets(run: str, slot: int) -> TicketFifo | None:
    try:
        return TicketFifo(ticket_fifo.path(run, slot))
    except OSError:
        return None  # the kernel is on another machine, or this user has no access


def _begun(run: str, slots: int) -> BegunPage | None:
    try:
        return BegunPage(begun_page.path(run), slots)
    except OSError:
        return None  # as above
