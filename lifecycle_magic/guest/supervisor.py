"""The supervisor: the first process of a container, and the one that owns its end.

It dials home, forks the worker, and from then on waits for one of four things: the kernel says
something or is gone, the worker says something or is gone, output comes, or somebody stops the
container. It never waits on anything but its poll, never runs the user's code, and so can't be
kept from its work by it: neither by a method that sleeps nor by one that holds the GIL.

    running   the worker enters, then answers inputs
    draining  the data sockets are at their end; the running input may finish, or is interrupted
    exiting   the worker runs its exit hooks, inside the grace
    over      the worker is gone; report, log and sockets are settled

It keeps duplicates of the data sockets. Shutting their reading half is how the worker
learns that it is time: it reads what was sent before, then end-of-file.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

from lifecycle_magic.guest import interrupts, oom
from lifecycle_magic.guest.journal import Journal
from lifecycle_magic.guest.notes import Lines, line
from lifecycle_magic.wire.descriptors import make_room
from lifecycle_magic.wire.frames import Channel
from lifecycle_magic.wire.hello import CONTROL, DATA, MEMORY, Boot, dial, introduce
from lifecycle_magic.wire.shared import Shared

DRAIN = 5.0
"""Seconds that a running input has to end when the container must go, and again after its
interrupt."""

INSIST = 2.0
"""The last seconds of those: a coroutine that did not let itself be cancelled by then is
interrupted like a function."""

MAX_BACKLOG = 1 << 20
"""Bytes of output that wait for a kernel which does not read; more only goes to the log."""


class Supervisor:
    """``run`` is the run folder; ``worker`` is the pid of the forked worker."""

    def __init__(
        self, boot: Boot, run: str, control: Channel, data: list[Channel], worker: int, pipes: Pipes
    ) -> None:
        self._boot = boot
        self._run = run
        self._control: socket.socket | None = control.sock
        self._control.setblocking(False)
        self._data = [channel.sock for channel in data]
        self._worker = worker
        self._pipes = pipes
        self._journal = Journal(os.path.join(run, "log"))
        self._said = Lines()  # by the kernel
        self._noted = Lines(self._on_bad_note)  # by the worker, which the user's code may break
        self._backlog = bytearray()
        self._decoders = {
            pipes.out: ("stdout", codecs.getincrementaldecoder("utf-8")("replace")),
            pipes.err: ("stderr", codecs.getincrementaldecoder("utf-8")("replace")),
        }
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._phase = "running"
        self._deadline: float | None = None
        self._terminated = False  # set by a signal handler, so acted upon in the loop
        self._interrupted = 0  # times
        self._why = ""
        self._killed: str | None = None
        self._hooks: list[dict[str, Any]] = []
        self._entered = False
        self._done = False
        self._began = time.time()
        self._exit_began: float | None = None
        self._oom_kills = oom.kills()

    # --- the loop --------------------------------------------------------------------------

    def run(self) -> int:
        """Until the worker is gone and everything it left behind is read."""
        wake_r, wake_w = os.pipe()
        os.set_blocking(wake_r, False)
        os.set_blocking(wake_w, False)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_sigterm)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to wake the poll
        for fd in (wake_r, self._pipes.notes, self._pipes.out, self._pipes.err):
            self._poll.register(fd, select.POLLIN)
        status: int | None = self._reap()
        while status is None:
            for fd, _ in self._poll.poll(self._timeout()):
                if self._control is not None and fd == self._control.fileno():
                    self._on_control()
                elif fd == wake_r:
                    os.read(wake_r, 4096)
                else:
                    self._on_pipe(fd)
            if self._terminated:
                # At once: the engine kills us at grace + 5 s, and the grace belongs to exit.
                self._go("it was stopped from outside (SIGTERM)", 0.0)
            self._on_time()
            status = self._reap()
        self._settle(status)
        return 0

    def _timeout(self) -> float | None:
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - time.monotonic()) * 1000 + 1

    def _reap(self) -> int | None:
        """Bury every child that died, as PID 1 has to; the worker's status if it is among them."""
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

    def _on_sigterm(self, signum: int, frame: Any) -> None:
        self._terminated = True

    # --- what comes in ---------------------------------------------------------------------

    def _on_control(self) -> None:
        assert self._control is not None
        self._send()
        try:
            data = self._control.recv(1 << 16)
            told = self._said.feed(data)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            data, told = b"", []
        if not data:
            self._poll.unregister(self._control)
            self._control.close()
            self._control = None
            # Nobody waits for the running input any more, so it is interrupted at once.
            self._go("the kernel is gone", 0.0)
        for one in told:
            if one.get("do") == "cancel":
                self._interrupt(int(one["call"]))
            elif one.get("do") == "exit":
                self._go(str(one.get("why", "the kernel asked")), DRAIN)

    def _on_pipe(self, fd: int) -> None:
        data = os.read(fd, 1 << 16)
        if not data:
            self._poll.unregister(fd)
        self._take(fd, data)

    def _drain(self, fd: int) -> None:
        """What is still in a pipe. A child that outlived the worker may hold its other end open."""
        os.set_blocking(fd, False)
        while True:
            try:
                data = os.read(fd, 1 << 16)
            except BlockingIOError:
                return
            if not data:
                return
            self._take(fd, data)

    def _take(self, fd: int, data: bytes) -> None:
        if fd == self._pipes.notes:
            self._read_notes(data)
        else:
            self._read_output(fd, data)

    def _read_notes(self, data: bytes) -> None:
        for one in self._noted.feed(data):
            try:
                self._on_note(one["note"], one)
            except (KeyError, TypeError) as error:
                self._on_bad_note(error)

    def _on_bad_note(self, error: Exception) -> None:
        self._keep("stderr", f"lifecycle_magic: a note of the worker is lost: {error!r}\n", True)

    def _on_note(self, note: str, told: dict[str, Any]) -> None:
        if note == "print":
            self._keep(told["stream"], told["text"], told["shown"])
        elif note == "entered":
            self._entered = True
        elif note == "exiting":
            self._go("the kernel closed the data connection", DRAIN)  # if it is not going already
            self._phase = "exiting"
            self._exit_began = time.time()
            self._deadline = time.monotonic() + self._boot.grace
            self._tell(line(event="exiting", why=self._why))
        elif note == "exit":
            self._hooks.append({key: told[key] for key in ("hook", "seconds", "error")})
        elif note == "done":
            self._done = True

    def _read_output(self, fd: int, data: bytes) -> None:
        stream, decoder = self._decoders[fd]
        text = decoder.decode(data, final=not data)
        if text:
            self._keep(stream, text, shown=False)

    def _keep(self, stream: str, text: str, shown: bool) -> None:
        self._journal.write(text)
        if len(self._backlog) < MAX_BACKLOG:
            self._tell(line(event="log", stream=stream, text=text, shown=shown))

    # --- what goes out ---------------------------------------------------------------------

    def _tell(self, data: bytes) -> None:
        if self._control is not None:
            self._backlog += data
            self._send()

    def _send(self) -> None:
        """As much of the backlog as the socket takes now; the poll tells when it takes more."""
        if self._control is None:
            return
        try:
            while self._backlog:
                del self._backlog[: self._control.send(self._backlog)]
        except BlockingIOError:
            pass
        except OSError:
            self._backlog.clear()  # the read side will find out why
        self._poll.modify(self._control, select.POLLIN | (select.POLLOUT if self._backlog else 0))

    # --- going -----------------------------------------------------------------------------

    def _go(self, why: str, patience: float) -> None:
        """Begin to drain; ``patience`` is seconds before the running input is interrupted."""
        if self._phase != "running":
            if self._phase == "draining" and not self._interrupted:
                self._deadline = min(self._deadline or 0.0, time.monotonic() + patience)
            return
        self._phase = "draining"
        self._why = why
        for sock in self._data:
            try:
                sock.shutdown(socket.SHUT_RD)
            except OSError:
                pass  # the kernel closed it already
        self._deadline = time.monotonic() + patience

    def _on_time(self) -> None:
        if self._deadline is None or time.monotonic() < self._deadline:
            return
        if self._phase == "draining" and self._interrupted < 2:
            self._interrupted += 1
            self._interrupt(interrupts.ANY)
            last = self._interrupted == 2
            self._deadline = time.monotonic() + (INSIST if last else DRAIN - INSIST)
        elif self._phase == "draining":
            self._kill(f"the running input did not stop within {DRAIN:g} s, so exit could not run")
        else:
            self._kill(f"exit did not end within its grace of {self._boot.grace:g} s")

    def _interrupt(self, call: int) -> None:
        try:
            interrupts.ask(self._pipes.cancels, call)
        except BrokenPipeError:
            return  # it has just died, and will be buried
        os.kill(self._worker, signal.SIGINT)

    def _kill(self, why: str) -> None:
        self._killed = why
        self._deadline = None
        os.kill(self._worker, signal.SIGKILL)

    # --- gone ------------------------------------------------------------------------------

    def _settle(self, status: int) -> None:
        """The worker is gone: read what it left, end what it started, tell how it went."""
        for fd in (self._pipes.notes, self._pipes.out, self._pipes.err):
            self._drain(fd)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._worker, signal.SIGKILL)
        report = self._report(status)
        self._write(report)  # first the file: whoever hears of the end over the socket may look
        self._journal.close()
        if self._control is not None:
            self._control.setblocking(True)
            self._control.settimeout(DRAIN)
            self._tell(line(event="ended", report=report))
            self._control.close()
        for sock in self._data:
            try:
                # Also ends it for a child that the user's code forked and that outlived it.
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

    def _write(self, report: dict[str, Any]) -> None:
        """Write the report into the run folder, whole or not at all."""
        path = os.path.join(self._run, "report.json")
        with contextlib.suppress(OSError):  # a full disk, or no folder any more: still say it
            with open(path + ".part", "w") as file:
                json.dump(report, file)
            os.replace(path + ".part", path)

    def _report(self, status: int) -> dict[str, Any]:
        killed_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        orderly = self._done and status == 0
        failed = [one for one in self._hooks if one["error"]]
        return {
            "container": self._boot.container,
            "orderly": orderly,
            "entered": self._entered,
            "why": self._why or ("enter failed" if orderly else "the worker died"),
            "killed": self._killed,
            "exit_code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            "signal": signal.Signals(killed_by).name if killed_by else None,
            "oom": killed_by == signal.SIGKILL
            and not self._killed
            and oom.kills() > self._oom_kills,
            "hooks": self._hooks,
            "failed_hooks": len(failed),
            "began": self._began,
            "exit_began": self._exit_began,
            "ended": time.time(),
            "tail": self._journal.tail(),
        }


class Pipes:
    """The pipes between supervisor and worker; the supervisor's ends."""

    def __init__(self) -> None:
        self.notes, self.notes_w = os.pipe()
        self.out, self.out_w = os.pipe()
        self.err, self.err_w = os.pipe()
        self.cancels_r, self.cancels = os.pipe()

    def keep_supervisors(self) -> None:
        for fd in (self.notes_w, self.out_w, self.err_w, self.cancels_r):
            os.close(fd)

    def keep_workers(self) -> None:
        for fd in (self.notes, self.out, self.err, self.cancels):
            os.close(fd)
        os.dup2(self.out_w, 1)
        os.dup2(self.err_w, 2)
        os.close(self.out_w)
        os.close(self.err_w)


def main(run: str) -> int:
    """Supervise one container whose run folder is ``run``; the process's exit code."""
    boot = Boot.take(os.path.join(run, "boot.json"))
    try:
        make_room(boot.channels)
        control = introduce(dial(boot.address), boot.token, CONTROL)
        data = [
            introduce(dial(boot.address), boot.token, DATA, slot) for slot in range(boot.channels)
        ]
        if boot.address.startswith("unix:"):  # descriptors pass over no other socket
            for slot, channel in enumerate(data):
                side = introduce(dial(boot.address), boot.token, MEMORY, slot)
                channel.shared = Shared(side.sock)
    except (OSError, RuntimeError) as error:
        # No kernel, or one that does not want us: nothing was started, so nothing has to be ended.
        print(f"lifecycle_magic: could not reach the kernel: {error}", file=sys.stderr)
        return 1
    pipes = Pipes()
    worker = os.fork()
    if worker == 0:
        os._exit(_in_worker(control, data, pipes, run))
    try:
        os.setpgid(worker, worker)
    except OSError:
        pass  # the child did it first, or is gone
    pipes.keep_supervisors()
    for channel in data:
        if channel.shared is not None:
            channel.shared.close()
    return Supervisor(boot, run, control, data, worker, pipes).run()


def _in_worker(control: Channel, data: list[Channel], pipes: Pipes, run: str) -> int:
    """The forked child. Its exit code is 0 only if it went the whole way."""
    try:
        os.setpgid(0, 0)
        control.close()
        pipes.keep_workers()
        # The first choice of the kernel when memory runs out; the supervisor has to live to tell.
        oom.prefer_this_process()
        signal.signal(signal.SIGTERM, lambda *_: None)  # it is the supervisor who hears it
        from lifecycle_magic.guest import worker

        return worker.main(data, pipes.notes_w, pipes.cancels_r, run)
    except BaseException:
        import traceback

        traceback.print_exc(file=sys.__stderr__)
        return 70  # EX_SOFTWARE of sysexits(3): ours, not the user's
    finally:
        import atexit

        atexit._run_exitfuncs()
