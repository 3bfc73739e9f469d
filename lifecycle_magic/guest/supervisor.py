"""The supervisor: the first process of a container, which owns the container's end.

`lifecycle_magic.guest.start` connects to the kernel and forks the worker. From then on, the
supervisor waits for four things: a message from the kernel or its exit, a message from the worker
or its exit, output, or a signal that stops the container. It never waits on anything but its poll
and never runs the user's code. So user code can't block it: neither a method that sleeps nor one
that holds the GIL.

    running   the worker enters, then answers inputs, or waits for the next kernel (`keeping`)
    draining  the data sockets are at their end; the running input may finish, or is interrupted
    exiting   the worker runs its exit hooks, within the grace
    over      the worker has exited; report, log and sockets are completed

It keeps duplicates of the data sockets. Shutting down their reading half, and the handover by which
further ones would come, is how the worker learns that the container stops: it reads what was sent
before, then end-of-file.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import select
import signal
import socket
import sys
import time
from typing import Any

from lifecycle_magic.guest import descriptor_output, end_report, interrupts, signals
from lifecycle_magic.guest.connecting import Connected
from lifecycle_magic.guest.container_log import ContainerLog
from lifecycle_magic.guest.control_connection import ControlConnection
from lifecycle_magic.guest.end_report import EndReport
from lifecycle_magic.guest.interrupter import Interrupter
from lifecycle_magic.guest.json_lines import encode_line
from lifecycle_magic.guest.keeping import Keeping
from lifecycle_magic.guest.pipes import Pipes
from lifecycle_magic.guest.print_journal import Unsent
from lifecycle_magic.guest.worker_pipes import WorkerPipes
from lifecycle_magic.wire import clock
from lifecycle_magic.wire.frames import Channel, Kind
from lifecycle_magic.wire.hello import BootFile

DRAIN_SECONDS = 5.0
"""Seconds that a running input has to end when the container must stop, and again after its
interrupt.
"""

SECOND_INTERRUPT_SECONDS = 2.0
"""Seconds after the first interrupt until a second one.

A coroutine that was not cancelled by then is interrupted like a function.
"""

KERNEL_GONE = "the kernel is gone"
DATA_CLOSED = "the kernel closed the data connection"


class Supervisor:
    """The supervisor of one container. ``run`` is the run folder, ``worker`` the pid of the
    worker. ``lost``, if given, is a pipe that ends when no kernel can reach the container any more.
    """

    def __init__(
        self,
        boot: BootFile,
        run: str,
        connected: Connected,
        worker: int,
        pipes: Pipes,
        lost: int | None = None,
    ) -> None:
        self._boot = boot
        self._lost = lost
        self._run = run
        self._data = [channel.sock for channel in connected.data]
        self._worker = worker
        self._pipes = pipes
        self._log = ContainerLog(os.path.join(run, "log"))
        self._poll = select.poll()
        self._control = ControlConnection(self._poll)
        self._control.open(connected.control.sock)
        self._reader = WorkerPipes(pipes, self._poll, self._on_note, self._on_output)
        self._wake_r, self._wake_w = os.pipe()
        self._keeping = Keeping(run, len(self._data), self._poll, self._stop_kept, self._wake)
        self._phase = "running"
        self._deadline: float | None = None
        self._printed = -1  # the last batch of printed text that the worker has reported
        self._interrupter = Interrupter(worker, pipes.cancels)
        self._signal = ""  # a signal that was sent; set by a thread, handled in the loop
        self._interrupted = 0  # how many times
        self._why = ""
        self._report = EndReport(boot.container)
        self._waits_for = ""  # the threads and processes that the worker waits for at its end

    # --- the loop --------------------------------------------------------------------------

    def run(self) -> int:
        """Run until the worker has exited and everything it left is read."""
        os.set_blocking(self._wake_r, False)
        os.set_blocking(self._wake_w, False)
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to wake the poll
        os.set_blocking(self._pipes.settled, False)
        self._poll.register(self._wake_r, select.POLLIN)
        self._reader.watch()
        if self._lost is not None:
            self._poll.register(self._lost, select.POLLIN)

        def on_signal(name: str) -> None:
            self._signal = name
            self._wake()

        signals.watch(on_signal)
        status: int | None = self._reap()
        while status is None:
            for fd, _ in self._poll.poll(self._timeout()):
                if self._control.owns(fd):
                    self._on_control()
                elif fd == self._wake_r:
                    os.read(self._wake_r, 4096)
                elif fd == self._lost:
                    self._poll.unregister(fd)
                    self._start_draining(KERNEL_GONE, 0.0)
                elif self._keeping.owns(fd):
                    self._keeping.on_readable(fd)
                else:
                    self._reader.on_readable(fd)
            if self._signal:
                # At once: the engine kills us at grace + 5 s, and the grace belongs to exit.
                self._start_draining(f"it was stopped from outside ({self._signal})", 0.0)
            self._follow_kernel()
            self._on_deadlines()
            status = self._reap()
        self._finish(status)
        return 0

    def _wake(self) -> None:
        """End the wait of the poll. On any thread."""
        with contextlib.suppress(BlockingIOError):  # the poll is awake already
            os.write(self._wake_w, b"\0")

    def _timeout(self) -> float | None:
        due = min(
            *(self._deadline or math.inf, self._interrupter.due),
            *(self._reader.due, self._keeping.due),
        )
        if due == math.inf:
            return None
        return max(0.0, due - time.monotonic()) * 1000 + 1

    def _reap(self) -> int | None:
        """Reap every child that died, as PID 1 has to.

        Return the worker's status if it is among them.
        """
        found = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return found
            if pid == 0:
                return found
            if pid == self._worker:
                found = status

    # --- input -----------------------------------------------------------------------------

    def _on_control(self) -> None:
        messages = self._control.receive()
        if not self._control.is_open:
            if self._phase != "running" or not self._keeping.begin():
                # No caller waits for the running input any more, so it is interrupted at once.
                self._start_draining(KERNEL_GONE, 0.0)
            # The sockets of a kernel that dies close one after the other, in any order.
            if self._why == DATA_CLOSED:
                self._why = KERNEL_GONE
        for one in messages:
            if one.get("do") == "cancel":
                self._reader.read_pending_notes()  # of processes that the call has started
                self._interrupter.interrupt(int(one["call"]), _since(one))
            elif one.get("do") == "keep":
                with contextlib.suppress(KeyError, TypeError, ValueError):
                    self._keeping.set_terms(one)
            elif one.get("do") == "settled":
                descriptor_output.answer(self._pipes.settled, int(one["number"]))
            elif one.get("do") == "exit":
                at_once = bool(one.get("at_once"))
                self._start_draining(
                    str(one.get("why", "the kernel asked")), 0.0 if at_once else DRAIN_SECONDS
                )

    def _on_note(self, note: str, fields: dict[str, Any]) -> None:
        if note == "print":
            self._printed = int(fields.get("number", self._printed))
            self._on_output(str(fields["stream"]), str(fields["text"]), bool(fields["shown"]))
        elif note == "child":
            self._interrupter.processes.record_start(int(fields["pid"]), int(fields["call"]))
        elif note == "entered":
            self._report.entered = True
            pids = frozenset(map(int, fields["descendants"]))
            self._interrupter.processes.record_entered(float(fields["at"]), pids)
        elif note == "free":
            self._keeping.record_free(int(fields["slot"]))
        elif note == "enter failed":
            self._report.enter_error = str(fields["error"])
        elif note == "stopping":
            for call in fields["calls"]:
                self._interrupter.signal_processes(int(call))
        elif note == "settle":
            self._settle(int(fields["number"]))
        elif note == "exiting":
            # Does nothing if the container stops already.
            self._start_draining(DATA_CLOSED, DRAIN_SECONDS)
            self._phase = "exiting"
            self._report.exit_began = time.time()
            self._deadline = time.monotonic() + self._boot.grace
            self._control.queue(encode_line(event="exiting", why=self._why))
        elif note == "waiting":
            self._waits_for = ", ".join(map(str, fields["names"]))
        elif note == "again":
            self._interrupter.signal_worker()
        elif note == "exit":
            self._report.add_hook(fields["hook"], float(fields["seconds"]), fields["error"])
        elif note == "done":
            self._report.done = True

    def _settle(self, number: int) -> None:
        """Send the output that is in the pipes now, and ask the kernel to say when it is shown."""
        self._reader.read_pending_output()
        if not self._control.is_open:
            descriptor_output.answer(self._pipes.settled, number)
        else:
            self._control.queue(encode_line(event="settle", number=number))

    def _on_output(self, stream: str, text: str, shown: bool) -> None:
        self._log.write(text)
        if not self._control.is_behind:
            self._control.queue(encode_line(event="log", stream=stream, text=text, shown=shown))

    # --- the next kernel -------------------------------------------------------------------

    def _follow_kernel(self) -> None:
        """Serve the kernel that has adopted this container, if one has."""
        adopted = self._keeping.take_adopted()
        if adopted is None:
            return
        connected = adopted.connected
        try:
            if self._phase != "running":
                raise OSError("it stops")  # since the kernel has connected
            self._pass_on(connected)
        except OSError:
            connected.close()
            self._start_draining("its worker could not be connected to the next kernel", 0.0)
            return
        self._boot = adopted.boot
        self._control.open(connected.control.sock)

    def _pass_on(self, connected: Connected) -> None:
        """Give the worker its new connections, and keep duplicates of those for calls."""
        if sys.platform != "linux":
            raise NotImplementedError("only Linux can do this")
        calls = None
        with contextlib.suppress(OSError):  # over TCP there is no such socket
            calls = os.open(os.path.join(self._run, "calls"), os.O_PATH | os.O_CLOEXEC)
        try:
            for slot, channel in enumerate(connected.data):
                self._pipes.handover.pass_on(slot, channel, calls if slot == 0 else None)
        finally:
            if calls is not None:
                os.close(calls)
        for old in self._data:
            old.close()
        for channel in connected.data:
            if channel.shared is not None:
                channel.shared.close()
        self._data = [channel.sock for channel in connected.data]

    def _stop_kept(self, why: str) -> None:
        self._start_draining(why, 0.0)

    # --- stopping --------------------------------------------------------------------------

    def _start_draining(self, why: str, interrupt_after: float) -> None:
        """Start to drain. The running input is interrupted after ``interrupt_after`` seconds."""
        if self._phase != "running":
            if self._phase == "draining" and not self._interrupted:
                self._deadline = min(self._deadline or 0.0, time.monotonic() + interrupt_after)
            return
        self._phase = "draining"
        self._why = why
        self._keeping.end()
        for sock in self._data:
            try:
                sock.shutdown(socket.SHUT_RD)
            except OSError:
                pass  # the kernel closed it already
        self._pipes.handover.end()
        self._deadline = time.monotonic() + interrupt_after

    def _on_deadlines(self) -> None:
        self._interrupter.check_due()
        self._keeping.on_deadline()
        self._reader.on_deadline()
        if self._deadline is None or time.monotonic() < self._deadline:
            return
        if self._phase == "draining" and self._interrupted < 2:
            self._interrupted += 1
            self._interrupter.interrupt(interrupts.ANY_CALL)
            last = self._interrupted == 2
            self._deadline = time.monotonic() + (
                DRAIN_SECONDS - SECOND_INTERRUPT_SECONDS if last else SECOND_INTERRUPT_SECONDS
            )
        elif self._phase == "draining":
            self._kill(
                f"the running input did not stop within {DRAIN_SECONDS:g} s, so exit could not run"
            )
        else:
            self._kill(self._grace_exceeded())

    def _grace_exceeded(self) -> str:
        """Return what the end of the grace cut off."""
        grace = f"the grace of {self._boot.grace:g} s"
        if self._waits_for:
            return f"exit ended, but within {grace} these did not: {self._waits_for}"
        if self._report.done:
            return f"exit ended, but what runs at Python's end did not within {grace}"
        return f"exit did not end within its grace of {self._boot.grace:g} s"

    def _show(self, unsent: Unsent) -> bool:
        """Send to the cell what the exited worker has printed there last, after its other output.

        Return whether that was possible.
        """
        if not 0 <= unsent.slot < len(self._data):
            return False
        sock = self._data[unsent.slot]
        try:
            sock.settimeout(DRAIN_SECONDS)
            Channel(sock).send(Kind.OUTPUT, pickle.dumps(unsent[:2]))
        except OSError:
            return False
        return True

    def _kill(self, why: str) -> None:
        self._report.killed = why
        self._deadline = None
        os.kill(self._worker, signal.SIGKILL)

    # --- the end ---------------------------------------------------------------------------

    def _finish(self, status: int) -> None:
        """Finish after the worker has exited: read the rest, end its processes, send the report."""
        self._reader.read_rest_of_notes()
        unsent = self._pipes.journal.unsent(self._printed)
        if unsent is not None:
            shown = unsent.shown or self._show(unsent)
            self._on_output(unsent.stream, unsent.text, shown)
        self._reader.read_rest_of_output()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._worker, signal.SIGKILL)
        report = self._report.finish(status, self._why, self._log.tail())
        # The file first: a kernel that is notified over the socket may read it.
        end_report.write(self._run, report)
        self._log.close()
        self._control.finish(encode_line(event="ended", report=report), DRAIN_SECONDS)
        for sock in self._data:
            try:
                # Also ends it for a child that the user's code forked and that outlived it.
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()


def _since(fields: dict[str, Any]) -> float:
    """Return when the call began that the kernel wants interrupted, on this machine's clock."""
    if fields.get("clock") == clock.name() != "":
        return float(fields["since"])
    return clock.now() - float(fields["seconds"])
