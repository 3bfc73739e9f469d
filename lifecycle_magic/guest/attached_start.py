"""The start of a container that has nothing but one stream: its standard input and output, or a TLS
connection that it made.

Files came first on it (`lifecycle_magic.wire.packed_files`). Then a child process
takes the stream and carries the connections of supervisor and worker over them
(`lifecycle_magic.wire.multiplexer`); process 1 goes on as in every container
(`lifecycle_magic.guest.start`) and dials a Unix socket, as if the kernel listened there.

The child ends connections when the kernel has exited, when the stream ends, and when nothing was
received for the lease. The supervisor then runs ``exit`` as for a kernel that exited. It waits for
the child at its own end, for the end of process 1 would kill the child with what it has to send.

A container with ``keep`` waits for another kernel only while the stream lasts: without it, none can
reach the container. A pipe of which the child alone has the writing end notifies the supervisor.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import ssl
import sys
import time

from lifecycle_magic.guest import end_report, files, start
from lifecycle_magic.guest.keeping import SOCKET
from lifecycle_magic.wire.multiplexer import Multiplexer
from lifecycle_magic.wire.mux_channel import NonblockingStream
from lifecycle_magic.wire.mux_frames import FrameKind
from lifecycle_magic.wire.packed_files import unpack
from lifecycle_magic.wire.tls_stream import TlsStream

__all__ = ["main"]

LAST_SECONDS = 5.0
"""Seconds that the child has at the end to send what is left."""

MAX_FILES_BYTES = 64 << 20
"""Bytes of packed files that arrive later: the modules of a class, at most 32 MiB."""

MAX_REPORT_BYTES = 4 << 20

_TARGETS = {"sock": 0o600, "calls": 0o666}
"""The sockets in the run folder. In a container any user may call another class."""


def main(run: str, home: ssl.SSLSocket | None = None) -> int:
    """Start and supervise the container whose run folder is ``run``. Return the exit code.

    ``home`` is the connection to the kernel, without which standard input and output are the
    stream.
    """
    listeners = {name: _listen(os.path.join(run, name), mode) for name, mode in _TARGETS.items()}
    over_r, over_w = os.pipe()
    lost_r, lost_w = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(over_w)
        os.close(lost_r)
        code = 70  # EX_SOFTWARE of sysexits(3): a fault of this package
        try:
            stream = TlsStream(home) if home is not None else _Descriptors()
            code = _Child(run, listeners, over_r, lost_w, stream).run()
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(over_r)
    os.close(lost_w)
    if home is not None:
        home.close()
    for listener in listeners.values():
        listener.close()
    # Nothing that user code prints or reads may reach the stream.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    try:
        return start.main(run, lost_r)
    finally:
        with contextlib.suppress(OSError):  # the child was killed
            os.write(over_w, b"x")  # its end would not be seen: a fork of the worker may hold it
        _wait(child)


def _listen(path: str, mode: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(path)
    os.chmod(path, mode)
    sock.listen(1024)
    sock.setblocking(False)
    return sock


def _wait(child: int) -> None:
    """Wait for the child, which ends by itself; the supervisor may have reaped it already."""
    deadline = time.monotonic() + 2 * LAST_SECONDS
    while time.monotonic() < deadline:
        try:
            if os.waitpid(child, os.WNOHANG) != (0, 0):
                return
        except ChildProcessError:
            return
        time.sleep(0.005)


class _Descriptors:
    """Standard input and output as a `lifecycle_magic.wire.multiplexer.Stream`."""

    reader = 0
    writer = 1

    def __init__(self) -> None:
        os.set_blocking(0, False)
        os.set_blocking(1, False)

    def read(self) -> bytes | None:
        try:
            return os.read(0, 1 << 18)
        except BlockingIOError:
            return None

    def write(self, data: memoryview) -> int:
        try:
            return os.write(1, data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Leave them open: this process exits."""


class _Child:
    """The process that owns the stream. ``over`` is a pipe that ends when process 1 does, ``lost``
    one that this process closes when no kernel can reach the container any more.
    """

    def __init__(
        self,
        run: str,
        listeners: dict[str, socket.socket],
        over: int,
        lost: int,
        stream: NonblockingStream,
    ) -> None:
        self._run = run
        self._listeners = listeners
        self._over = over
        self._lost: int | None = lost
        self._is_gone = False  # the kernel has exited, or is lost
        self._deadline: float | None = None  # for what is sent at the end
        self._said_bye = False
        self._is_done = False
        self._was_heard = False  # the other end has answered the last message
        self._selector = selectors.DefaultSelector()
        self._mux = Multiplexer(
            stream,
            self._selector,
            on_end=self._on_end,
            on_message=self._on_files,
            most=MAX_FILES_BYTES,
            on_gone=self._on_gone,
            on_bye=self._on_bye,
            on_kill=self._on_kill,
            on_dial=self._on_dial,
        )

    def run(self) -> int:
        """Carry connections until process 1 ends. Return the exit code."""
        # A terminal's or an engine's signals are for process 1.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for name, listener in self._listeners.items():
            self._selector.register(
                listener, selectors.EVENT_READ, lambda _, name=name: self._accept(name)
            )
        self._selector.register(self._over, selectors.EVENT_READ, lambda _: self._on_over())
        while not self._is_done:
            due = self._mux.tick(time.monotonic())
            if self._deadline is not None:
                left = self._deadline - time.monotonic()
                if left <= 0:
                    break
                due = min(due, left if self._said_bye else LAST_SECONDS / 2)
            for key, events in self._selector.select(max(due, 0.0)):
                key.data(events)
            self._end_if_idle()
        if not self._was_heard and os.getppid() == 1:  # in a container of its own
            self._keep_report()
        return 0

    def _accept(self, name: str) -> None:
        try:
            sock = self._listeners[name].accept()[0]
        except OSError:
            return
        if self._is_gone:
            sock.close()
        else:
            self._mux.open(name, sock)

    # --- what the other end says -----------------------------------------------------------

    def _on_files(self, data: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):  # the worker reports what is missing
            unpack(data, self._run)

    def _on_dial(self, target: str) -> None:
        """Open a channel to a socket in the run folder; one that ends at once if that fails."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if target != SOCKET:
                raise OSError(f"{target} is none that the kernel's end may dial")
            sock.connect(os.path.join(self._run, target))
        except OSError:
            sock.close()
            sock, other = socket.socketpair()
            other.close()
        self._mux.open(target, sock)

    def _lose(self) -> None:
        """Have the supervisor wait for no kernel any more."""
        self._is_gone = True
        if self._lost is not None:
            os.close(self._lost)
            self._lost = None

    def _on_gone(self) -> None:
        self._lose()
        self._mux.close_channels()

    def _on_kill(self) -> None:
        """Kill every process but this one and process 1, which ends without a worker."""
        if os.getppid() == 1:  # in a container of its own
            with contextlib.suppress(OSError):
                os.kill(-1, signal.SIGKILL)

    def _on_bye(self) -> None:
        self._is_done = self._was_heard = self._said_bye

    def _on_end(self, why: str) -> None:
        self._lose()
        # Nothing can be sent any more. The listeners stay: who dials is refused, and not kept.
        with contextlib.suppress(OSError):  # nobody may read that any more
            print(f"lifecycle_magic: {why}", file=sys.stderr, flush=True)
        if self._deadline is not None:
            self._is_done = True

    # --- the end of process 1 --------------------------------------------------------------

    def _on_over(self) -> None:
        self._selector.unregister(self._over)
        self._deadline = time.monotonic() + LAST_SECONDS
        self._is_done = self._mux.ended

    def _end_if_idle(self) -> None:
        """Send the report as the last message, when all connections have sent what they had.

        A process that outlives process 1's work may hold one open, which is waited for half of the
        time.
        """
        if self._deadline is None or self._said_bye:
            return
        if not self._mux.is_idle and time.monotonic() < self._deadline - LAST_SECONDS / 2:
            return
        self._said_bye = True
        self._mux.send_message(self._report())
        self._mux.send(FrameKind.BYE)

    def _keep_report(self) -> None:
        """Leave the report to a later session, which finds it in the ended container."""
        if report := self._report():
            with contextlib.suppress(OSError), open(files.create(end_report.KEPT), "wb") as file:
                file.write(report)

    def _report(self) -> bytes:
        path = os.path.join(self._run, "report.json")
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(fd, "rb") as file:
                return file.read(MAX_REPORT_BYTES)
        return b""
