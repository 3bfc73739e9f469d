"""The relay process: it owns the streams to the containers of one engine, and the ssh tunnel.

One runs for each session and engine without shared files, in a session of its own, with the
standard library alone (``python -I -S``). It takes requests from the kernel over a socket, one JSON
object a line, and answers in the same way:

    {"do": "serve", "number": 1, "container": id, "run": folder, "guest": file}
        → {"event": "served", "number": 1, "error": ""}
    {"do": "put", "container": id, "run": folder}   → the container's end gets the modules in it
    {"do": "remove", "container": id, "seconds": 40} removes a container once it has ended
    {"do": "fate", "number": 2, "container": id}
        → {"event": "fate", "number": 2, "error": why the stream ended before its container}
    {"event": "ready", "error": ""}                  is the first line: the tunnel is there

When the kernel exits, the socket ends. The relay passes that on at once, in a frame of its own,
takes the reports of the containers' ends into their run folders, removes the containers, and exits.
If the relay dies, the containers' standard input ends, and they take the kernel for lost.

A thread in the kernel is no substitute: beside a cell that computes, its answers took 21 ms.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from lifecycle_magic.engines.relay import tunnel
from lifecycle_magic.engines.relay.engine_http import (
    Attached,
    EngineAddress,
    RequestError,
    attach,
    request,
)
from lifecycle_magic.host import relay_lock
from lifecycle_magic.wire import packed_files
from lifecycle_magic.wire.hello import dial
from lifecycle_magic.wire.multiplexer import Multiplexer
from lifecycle_magic.wire.mux_frames import FrameKind

__all__ = ["main"]

MAX_REPORT_BYTES = 4 << 20
REMOVE_SECONDS = 60.0
"""Seconds beyond its own grace in which a container ends whose kernel has exited."""

_TARGETS = ("sock", "calls")  # in a run folder


class _Served:
    """A container with its stream."""

    def __init__(self, container: str, run: str, seconds: float) -> None:
        self.container = container
        self.run = run
        self.seconds = seconds
        self.mux: Multiplexer
        self.stream: Attached
        self.has_ended = False  # it said BYE
        self.lock = relay_lock.hold(run)


class Relay:
    """The loop of the process. ``control`` leads to the kernel."""

    def __init__(self, control: socket.socket, address: EngineAddress) -> None:
        self._control = control
        self._address = address
        self._lines = b""
        self._served: dict[str, _Served] = {}
        self._selector = selectors.DefaultSelector()
        self._calls: deque[Callable[[], None]] = deque()  # of other threads, for the loop
        self._wake_r, self._wake_w = os.pipe()
        self._fates: dict[str, str] = {}  # why streams ended before their containers said so
        self._threads = 0  # that remove containers
        self._is_alone = False  # the kernel has exited
        self._is_cut = False  # the tunnel has ended
        os.set_blocking(self._wake_r, False)
        os.set_blocking(self._wake_w, False)
        self._selector.register(self._wake_r, selectors.EVENT_READ, lambda _: self._on_wake())
        self._selector.register(control, selectors.EVENT_READ, lambda _: self._on_control())

    def run(self) -> None:
        """Serve until the kernel has exited and all containers have ended."""
        while self._served or self._threads or not (self._is_alone or self._is_cut):
            now = time.monotonic()
            due = min((one.mux.tick(now) for one in list(self._served.values())), default=None)
            ready = self._selector.select(due)
            # The end of the kernel first: containers then learn it before they lose connections.
            for key, events in sorted(ready, key=lambda one: one[0].fileobj is not self._control):
                key.data(events)

    def watch(self, ssh: tunnel.Tunnel) -> None:
        """Exit when the tunnel has ended: its streams end, and the kernel starts another relay."""

        def wait() -> None:
            ssh.wait_for_end()
            self._call(self._on_cut)

        threading.Thread(target=wait, daemon=True).start()

    def _on_cut(self) -> None:
        self._is_cut = True
        for one in list(self._served.values()):
            one.mux.end("the ssh connection has ended")

    # --- the kernel ------------------------------------------------------------------------

    def tell(self, **message: object) -> None:
        """Send a line to the kernel."""
        with contextlib.suppress(OSError):  # it has exited, as the loop will see
            self._control.sendall(json.dumps(message).encode() + b"\n")

    def _on_control(self) -> None:
        try:
            data = self._control.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self._on_kernel_exit()
            return
        *lines, self._lines = (self._lines + data).split(b"\n")
        for line in lines:
            self._on_request(json.loads(line))

    def _on_request(self, asked: dict[str, Any]) -> None:
        if asked["do"] == "serve":
            self._start_thread(lambda: self._serve(asked))
        elif asked["do"] == "put" and (found := self._served.get(asked["container"])):
            found.mux.send_message(_pack_run_folder(found.run)[32:])
        elif asked["do"] == "fate":
            found_fate = self._fates.get(asked["container"], "")
            self.tell(event="fate", number=asked["number"], error=found_fate)
        elif asked["do"] == "remove":
            self._fates.pop(asked["container"], None)
            self._start_thread(lambda: self._remove(asked["container"], float(asked["seconds"])))

    def _on_kernel_exit(self) -> None:
        self._selector.unregister(self._control)
        self._control.close()
        self._is_alone = True
        for one in list(self._served.values()):
            self._part(one)

    def _part(self, one: _Served) -> None:
        """Let a container know that the kernel has exited, and remove it after its end."""
        one.mux.send(FrameKind.GONE)
        one.mux.close_channels()
        self._start_thread(lambda: self._remove(one.container, one.seconds))

    # --- threads, for requests that block --------------------------------------------------

    def _start_thread(self, work: Callable[[], None]) -> None:
        self._threads += 1

        def run() -> None:
            try:
                work()
            finally:
                self._call(self._end_thread)

        threading.Thread(target=run, daemon=True).start()

    def _end_thread(self) -> None:
        self._threads -= 1

    def _call(self, call: Callable[[], None]) -> None:
        self._calls.append(call)
        with contextlib.suppress(BlockingIOError):  # the loop is awake already
            os.write(self._wake_w, b"\0")

    def _on_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_r, 4096)
        while self._calls:
            self._calls.popleft()()

    def _serve(self, asked: dict[str, Any]) -> None:
        """Attach to a created container and start it. On a thread."""
        container, error = str(asked["container"]), ""
        try:
            with open(asked["guest"], "rb") as file:
                first = file.read() + _pack_run_folder(asked["run"])
            one = _Served(container, asked["run"], float(asked["seconds"]))
        except OSError as failed:
            self._answer(asked, str(failed))
            return
        try:
            stream = attach(self._address, container)
        except RequestError as failed:
            os.close(one.lock)
            self._answer(asked, str(failed) or "no answer")
            return
        # It speaks first when it has read what is sent: nothing of it can be lost.
        self._call(lambda: self._add(one, stream, first))
        try:
            self._request("POST", f"/containers/{container}/start")
        except RequestError as failed:
            error = str(failed)
        self._answer(asked, error)

    def _answer(self, asked: dict[str, Any], error: str) -> None:
        """Answer a request to serve. On a thread."""

        def answer() -> None:
            if not self._is_alone:
                self.tell(event="served", number=asked["number"], error=error)
            elif error:  # it was not started, and nobody else removes it
                self._start_thread(lambda: self._remove(asked["container"], 0.0))

        self._call(answer)

    def _request(self, method: str, path: str, timeout: float = 60.0) -> Any:
        return request(self._address, method, path, timeout=timeout)

    def _remove(self, container: str, seconds: float) -> None:
        """Remove a container once it has ended, also where the engine restarts meanwhile.

        A later session removes what can't be removed now.
        """
        deadline = time.monotonic() + seconds + REMOVE_SECONDS
        while not self._is_cut and (left := deadline - time.monotonic()) > 0:
            try:
                self._request("POST", f"/containers/{container}/wait", timeout=left)
                self._request("DELETE", f"/containers/{container}?v=1")
                return
            except RequestError as error:
                if error.status == 404:
                    return
                time.sleep(min(1.0, left))

    # --- streams ---------------------------------------------------------------------------

    def _add(self, one: _Served, stream: Attached, first: bytes) -> None:
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
        if self._is_alone:
            self._part(one)

    def _connect(self, one: _Served, target: str) -> socket.socket | None:
        """Return a connection to the kernel for one of the container's."""
        if target not in _TARGETS or self._is_alone:
            return None
        try:
            if target == "sock":  # the supervisor: from now on the container has a log
                _write(os.path.join(one.run, "log"), b"")
            return dial(f"unix:{one.run}/{target}")
        except OSError:
            return None

    def _on_report(self, one: _Served, data: bytes) -> None:
        if data:
            with contextlib.suppress(OSError):  # the kernel has the report, and removed the folder
                _write(os.path.join(one.run, "report.json"), data)

    def _on_bye(self, one: _Served) -> None:
        one.has_ended = True
        one.mux.send(FrameKind.BYE)

    def _on_end(self, one: _Served, why: str) -> None:
        self._served.pop(one.container, None)
        if one.stream.errors:
            with contextlib.suppress(OSError):
                _write(os.path.join(one.run, "start.log"), one.stream.errors)
        os.close(one.lock)
        if not one.has_ended and not self._is_alone:
            self._fates[one.container] = why


def _pack_run_folder(run: str) -> bytes:
    """Return the regular files of a run folder that its container needs, with their length.

    The boot file holds a token and is removed, as the container would.
    """
    files: dict[str, bytes] = {}
    for folder, _, names in os.walk(run):
        for name in names:
            path = os.path.join(folder, name)
            below = os.path.relpath(path, run)
            if below != "boot.json" and not below.startswith("modules" + os.sep):
                continue
            with open(path, "rb") as file:
                files[below] = file.read()
            if below == "boot.json":
                os.unlink(path)
    return packed_files.pack(files)


def _write(path: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with open(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)


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
    relay.tell(event="ready", error=error)
    try:
        if not error:
            if ssh is not None:
                relay.watch(ssh)
            relay.run()
    finally:
        if ssh is not None:
            ssh.close()
