"""The relay process: it owns the streams to the containers of one engine, and the ssh tunnel.

One runs for each session and engine without shared files, in a session of its own, with the
standard library alone (``python -I -S``). It takes requests from the kernel over a socket, one JSON
object a line, and answers in the same way:

    {"do": "serve", "number": 1, "container": id, "run": folder, "guest": file}
        → {"event": "served", "number": 1, "error": ""}
    {"do": "put", "container": id, "run": folder}   → the container's end gets the modules in it
    {"do": "remove", "container": id, "seconds": 40, "is_service": false}
                                                     removes it once it has ended
    {"do": "expect", "number": 3, "container": service, "run": folder, "guest": file, "token": text,
     "host": address, "port": 0, "authority": file, "identity": file, "seconds": 40}
        → {"event": "expected", "number": 3, "error": "", "port": 40123}
                                                     the service's container connects by itself
    {"do": "kill", "container": service}             kills its processes, and removes the service
    {"do": "fate", "number": 2, "container": id}
        → {"event": "fate", "number": 2, "error": why the stream ended before its container}
    {"do": "keep", "container": id, "keep": true}    it outlives its kernel, or does not any more
    {"do": "take", "number": 4}
        → {"event": "taken", "number": 4, "error": ""}
                                                     over the socket of a kept container: from now
                                                     on it belongs to this kernel
    {"event": "ready", "error": ""}                  is the first line: the tunnel is there
    {"event": "end", "error": why}                   is the last one, if the relay ends by itself

When the kernel exits, the socket ends. The relay passes that on at once, in a frame of its own,
takes the reports of the containers' ends into their run folders, removes the containers, and exits.
Of a container that is kept it closes the connections alone, and it listens in the run folder for
the next kernel (`kernels`). If the relay dies, the containers' standard input ends, and they take
the kernel for lost.

A thread in the kernel is no substitute: beside a cell that computes, its answers took 21 ms.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from lifecycle_magic.engines.relay import tunnel
from lifecycle_magic.engines.relay.background import BackgroundThreads
from lifecycle_magic.engines.relay.container_port import ExpectedContainer
from lifecycle_magic.engines.relay.engine_http import (
    Attached,
    EngineAddress,
    RequestError,
    attach,
    request,
)
from lifecycle_magic.engines.relay.kernels import KEPT, KeptSockets, KernelConnection
from lifecycle_magic.engines.relay.removal import remove_container
from lifecycle_magic.engines.relay.run_folder import pack_run_folder, write_file
from lifecycle_magic.engines.relay.service_containers import ServiceContainers
from lifecycle_magic.engines.relay.starting import hold_lease, start_container
from lifecycle_magic.exception import EngineError
from lifecycle_magic.host import relay_lock
from lifecycle_magic.wire.hello import dial
from lifecycle_magic.wire.multiplexer import Multiplexer
from lifecycle_magic.wire.mux_frames import FrameKind
from lifecycle_magic.wire.tls_stream import TlsStream

__all__ = ["main"]

MAX_REPORT_BYTES = 4 << 20
REMOVE_SECONDS = 60.0
"""Seconds beyond its own grace in which a container ends whose kernel has exited."""

_TARGETS = ("sock", "calls")  # in a run folder


class _Served:
    """A container with its stream. ``kernel`` is the one that it belongs to, None for none."""

    def __init__(
        self, container: str, run: str, seconds: float, lock: int, kernel: KernelConnection | None
    ) -> None:
        self.kernel = kernel
        self.kept: KeptSockets | None = None
        self.container = container
        self.run = run
        self.seconds = seconds
        self.mux: Multiplexer
        self.stream: Attached | TlsStream
        self.has_ended = False  # it said BYE
        self.lock = lock


class Relay:
    """The loop of the process. ``control`` leads to the kernel."""

    def __init__(self, control: socket.socket, address: EngineAddress) -> None:
        self._main = KernelConnection(control)
        self._kernels = [self._main]  # that live
        self._address = address
        self._served: dict[str, _Served] = {}
        self._selector = selectors.DefaultSelector()
        self._threads = BackgroundThreads(self._selector)
        self._fates: dict[str, str] = {}  # why streams ended before their containers said so
        self._is_cut = False  # the tunnel has ended
        self._services = ServiceContainers(
            self._selector, self._threads, self._request, self._add_service
        )
        self._watch_kernel(self._main)

    def run(self) -> None:
        """Serve until the kernels have exited and all containers have ended."""
        while self._served or self._threads.running or (self._kernels and not self._is_cut):
            now = time.monotonic()
            waits = [one.mux.tick(now) for one in list(self._served.values())]
            late = self._services.tick(now)
            due = min(waits if late is None else [*waits, late], default=None)
            ready = self._selector.select(due)
            # The end of the kernel first: containers then learn it before they lose connections.
            for key, events in sorted(ready, key=lambda one: not self._is_kernel(one[0].fileobj)):
                key.data(events)

    def watch(self, ssh: tunnel.Tunnel) -> None:
        """Exit when the tunnel has ended: its streams end, and the kernel starts another relay."""

        def wait() -> None:
            ssh.wait_for_end()
            self._threads.call(functools.partial(self._on_cut, ssh.ending()))

        threading.Thread(target=wait, daemon=True).start()

    def _on_cut(self, why: str) -> None:
        self._is_cut = True
        self.report_end(why)
        for one in list(self._served.values()):
            one.mux.end(why)

    # --- the kernels -----------------------------------------------------------------------

    def report_ready(self, error: str) -> None:
        """Send the first line to the kernel that has started this relay."""
        self._main.send(event="ready", error=error)

    def report_end(self, why: str) -> None:
        """Send the last line to the kernels."""
        for kernel in self._kernels:
            kernel.send(event="end", error=why)

    def _is_kernel(self, file: object) -> bool:
        return any(file is kernel.sock for kernel in self._kernels)

    def _watch_kernel(self, kernel: KernelConnection, of: _Served | None = None) -> None:
        """Take requests of a kernel; of one that may take over the container ``of``."""

        def read(_: int) -> None:
            lines = kernel.read()
            if lines is None:
                self._on_kernel_exit(kernel)
            for asked in lines or ():
                if asked["do"] == "take" and of is not None:
                    error = self._hand_over(of, kernel)
                    kernel.send(event="taken", number=asked["number"], error=error)
                else:
                    self._on_request(kernel, asked)

        self._selector.register(kernel.sock, selectors.EVENT_READ, read)

    def _hand_over(self, one: _Served, kernel: KernelConnection) -> str:
        """Let a container belong to a kernel, and send it the address. Return the error."""
        if one.container not in self._served:
            return "its stream has ended"
        try:
            one.mux.send_message(pack_run_folder(one.run)[32:])
        except OSError as error:
            return str(error)
        one.kernel = kernel
        return ""

    def _on_next_kernel(self, one: _Served, sock: socket.socket) -> None:
        self._kernels.append(KernelConnection(sock))
        self._watch_kernel(self._kernels[-1], one)

    def _on_request(self, kernel: KernelConnection, asked: dict[str, Any]) -> None:
        if asked["do"] == "serve":
            self._threads.start(lambda: self._serve(kernel, asked))
        elif asked["do"] == "put" and (found := self._served.get(asked["container"])):
            with contextlib.suppress(OSError):  # the folder has gone: that container has ended
                found.mux.send_message(pack_run_folder(found.run)[32:])
        elif asked["do"] == "keep" and (found := self._served.get(asked["container"])):
            self._keep(found, bool(asked["keep"]))
        elif asked["do"] == "expect":
            port, error = self._services.expect(asked)
            number = asked["number"]
            kernel.send(event="expected", number=number, error=error, port=port)
        elif asked["do"] == "kill":
            self._kill(asked["container"])
        elif asked["do"] == "fate":
            found_fate = self._fates.get(asked["container"], "")
            kernel.send(event="fate", number=asked["number"], error=found_fate)
        elif asked["do"] == "remove":
            self._fates.pop(asked["container"], None)
            if asked["is_service"]:  # also one of a relay that was killed
                self._services.add(asked["container"])
            self._threads.start(lambda: self._remove(asked["container"], float(asked["seconds"])))

    def _keep(self, one: _Served, is_kept: bool) -> None:
        """Let a container outlive its kernel, or not any more."""
        if one.kept is not None and not is_kept:
            one.kept.close()
            one.kept = None
        elif one.kept is None and is_kept:
            with contextlib.suppress(EngineError):  # a full disk: it ends with its kernel
                one.kept = KeptSockets(
                    one.run,
                    self._selector,
                    lambda: one.mux.dial(KEPT),
                    lambda sock: self._on_next_kernel(one, sock),
                )

    def _on_kernel_exit(self, kernel: KernelConnection) -> None:
        self._selector.unregister(kernel.sock)
        kernel.sock.close()
        self._kernels.remove(kernel)
        for one in list(self._served.values()):
            if one.kernel is kernel:
                self._part(one)
        if kernel is self._main:
            self._services.close()

    def _part(self, one: _Served) -> None:
        """Let a container know that its kernel has exited, and remove it after its end."""
        one.kernel = None
        if one.kept is not None:
            one.mux.close_channels(one.kept.carried)
            return
        one.mux.send(FrameKind.GONE)
        one.mux.close_channels()
        self._threads.start(lambda: self._remove(one.container, one.seconds))

    # --- threads, for requests that block --------------------------------------------------

    def _serve(self, kernel: KernelConnection, asked: dict[str, Any]) -> None:
        """Attach to a created container and start it. On a thread."""
        container, error = str(asked["container"]), ""
        try:
            with open(asked["guest"], "rb") as file:
                first = file.read() + pack_run_folder(asked["run"])
            lock = relay_lock.hold(asked["run"])
            one = _Served(container, asked["run"], float(asked["seconds"]), lock, kernel)
        except OSError as failed:
            self._answer(kernel, asked, str(failed))
            return
        try:
            stream = attach(self._address, container)
        except RequestError as failed:
            os.close(one.lock)
            self._answer(kernel, asked, str(failed) or "no answer")
            return
        # It speaks first when it has read what is sent: nothing of it can be lost.
        self._threads.call(lambda: self._add(one, stream, first))
        try:
            heard = functools.partial(self._threads.call, lambda: one.mux.hear())
            start_container(self._request, container, heard)
            # By the loop, which adds the stream first.
            self._threads.call(lambda: self._hold_lease(one, heard))
        except RequestError as failed:
            error = str(failed)
        self._answer(kernel, asked, error)

    def _hold_lease(self, one: _Served, heard: Callable[[], None]) -> None:
        hold_lease(self._request, lambda: one.mux.has_spoken or one.mux.ended, heard)

    def _answer(self, kernel: KernelConnection, asked: dict[str, Any], error: str) -> None:
        """Answer a request to serve. On a thread."""

        def answer() -> None:
            if kernel in self._kernels:
                kernel.send(event="served", number=asked["number"], error=error)
            elif error:  # it was not started, and nobody else removes it
                self._threads.start(lambda: self._remove(asked["container"], 0.0))

        self._threads.call(answer)

    def _request(self, method: str, path: str, timeout: float = 60.0) -> Any:
        return request(self._address, method, path, timeout=timeout)

    def _remove(self, container: str, seconds: float) -> None:
        """Remove a container or a service once it has ended. On a thread.

        A later session removes what can't be removed now.
        """
        deadline = time.monotonic() + seconds + REMOVE_SECONDS
        if container in self._services:
            self._services.remove(container, deadline, lambda: self._is_cut)
        else:
            remove_container(self._request, container, deadline, lambda: self._is_cut)

    # --- streams ---------------------------------------------------------------------------

    def _add_service(self, one: ExpectedContainer, stream: TlsStream, first: bytes) -> None:
        self._add(_Served(one.container, one.run, one.seconds, one.lock, self._main), stream, first)

    def _kill(self, service: str) -> None:
        if (found := self._served.get(service)) is not None:
            found.mux.send(FrameKind.KILL)
        self._services.delete(service)

    def _add(self, one: _Served, stream: Attached | TlsStream, first: bytes) -> None:
        one.stream = stream
        one.mux = Multiplexer(
            stream,
            self._selector,
            on_end=lambda why: self._on_end(one, why),
            on_message=lambda data: self._on_report(one, data),
            most=MAX_REPORT_BYTES,
            connect=lambda target: self._connect(one, target),
            on_bye=lambda: self._on_bye(one),
            pings=True,
            first=first,
        )
        self._served[one.container] = one
        if one.kernel not in self._kernels:
            self._part(one)

    def _connect(self, one: _Served, target: str) -> socket.socket | None:
        """Return a connection to the kernel for one of the container's."""
        if target == KEPT and one.kept is not None:
            return one.kept.take()
        if target not in _TARGETS or one.kernel is None:
            return None
        try:
            if target == "sock":  # the supervisor: from now on the container has a log
                write_file(os.path.join(one.run, "log"), b"")
            return dial(f"unix:{one.run}/{target}")
        except OSError:
            return None

    def _on_report(self, one: _Served, data: bytes) -> None:
        if data:
            with contextlib.suppress(OSError):  # the kernel has the report, and removed the folder
                write_file(os.path.join(one.run, "report.json"), data)

    def _on_bye(self, one: _Served) -> None:
        one.has_ended = True
        one.mux.send(FrameKind.BYE)

    def _on_end(self, one: _Served, why: str) -> None:
        self._served.pop(one.container, None)
        if one.stream.errors:
            with contextlib.suppress(OSError):
                write_file(os.path.join(one.run, "start.log"), one.stream.errors)
        if one.kept is not None:
            one.kept.close()
        os.close(one.lock)
        if one.kernel is None and one.kept is not None:
            self._threads.start(lambda: self._remove(one.container, one.seconds))
        elif not one.has_ended and one.kernel is not None:
            self._fates[one.container] = why


def main() -> None:
    """Run the relay. The one argument is JSON: the control socket's descriptor and the engine."""
    given = json.loads(sys.argv[1])
    if os.fork():
        os._exit(0)  # the kernel has waited for this process, and has no child to reap
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # an interrupt is the kernel's
    control = socket.socket(fileno=int(given["control"]))
    ssh = tunnel.Tunnel(given["ssh"], given["path"]) if given["ssh"] else None
    error = ssh.wait() if ssh is not None else ""
    tls = tuple(given["tls"]) if given["tls"] else None
    address = EngineAddress(given["path"], given["host"], given["port"], tls, given["verify"])
    relay = Relay(control, address)
    relay.report_ready(error)
    try:
        if not error:
            if ssh is not None:
                relay.watch(ssh)
            relay.run()
    except Exception:
        relay.report_end(f"the relay process has failed: {traceback.format_exc(-1)}")
        raise
    finally:
        if ssh is not None:
            ssh.close()
