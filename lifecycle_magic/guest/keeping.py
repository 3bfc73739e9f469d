"""The time in which a container has no kernel, and waits for another one to adopt it.

A kernel whose class has ``keep`` says so over the control connection once the container is warm.
From then on the supervisor listens in the run folder. When the kernel has exited without asking for
the end, the running inputs finish, their results are dropped, and the container waits ``keep``
seconds. A request is one JSON line with the token that the kernel gave; the answer is one or more:

    status   until when the container waits, and how many of its lanes still run an input
    adopt    it connects to the kernel whose ``boot.json`` is in the run folder, as at its start,
             once no input of the former kernel runs; exactly one kernel gets it
    stop     it ends, with its ``exit`` hooks; the connection ends when it has exited

These lines stay as they are when the rest of the protocol changes: a newer package can always list
and stop the containers that an older one has kept.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from lifecycle_magic.guest.connecting import Connected, connect
from lifecycle_magic.guest.json_lines import JsonLineReader, encode_line
from lifecycle_magic.wire import ticket_fifo
from lifecycle_magic.wire.hello import BootFile
from lifecycle_magic.wire.ticket_fifo import TicketFifo

__all__ = ["SOCKET", "AdoptingKernel", "Keeping"]

SOCKET = "kept"
"""The name of the socket in the run folder."""

MAX_REQUEST_BYTES = 4096
MAX_REQUESTS = 16
"""Connections at a time whose request was not answered yet. A further one replaces the oldest."""

REQUEST_SECONDS = 5.0
"""Seconds from a connection to the end of its request."""

CONNECT_SECONDS = 10.0
"""Seconds for each step of the handshake with the kernel that adopts the container."""

LONGEST_INPUT_SECONDS = 86_400.0
"""Seconds that the inputs of a dead kernel may run, if their class has no ``timeout``: a day."""

_CREDENTIALS_BYTES = 12  # pid, uid, gid: struct ucred of unix(7)


class AdoptingKernel(NamedTuple):
    """The connections to the kernel that has adopted the container."""

    boot: BootFile
    connected: Connected


class _Terms(NamedTuple):
    """The kernel's terms. ``idle`` is the time after which an idle container stops."""

    token: str
    seconds: float
    idle: float | None
    running: float


class _Request:
    """A connection on which a request arrives."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.lines = JsonLineReader()
        self.size = 0
        self.late = time.monotonic() + REQUEST_SECONDS


class Keeping:
    """The supervisor's half of ``keep``.

    ``poll`` is the supervisor's, ``stop`` starts the end for a reason, and ``wake`` ends the wait
    of the poll from another thread. ``slots`` is the number of lanes.
    """

    def __init__(
        self,
        run: str,
        slots: int,
        poll: select.poll,
        stop: Callable[[str], None],
        wake: Callable[[], None],
    ) -> None:
        self._run = run
        self._slots = slots
        self._poll = poll
        self._stop = stop
        self._wake = wake
        self._terms: _Terms | None = None
        self._listener: socket.socket | None = None
        self._requests: dict[int, _Request] = {}
        self._since: float | None = None  # when the kernel was gone; None while there is one
        self._idle_since: float | None = None
        self._free: set[int] = set()  # lanes that wait for a kernel
        self._adopter: _Request | None = None  # waits for the end of the running inputs
        self._connecting = False
        self._is_over = False  # the container stops
        self._outcome: AdoptingKernel | None = None  # set by the thread that connects

    # --- what the kernel says ----------------------------------------------------------------

    def set_terms(self, message: dict[str, Any]) -> None:
        """Take over what the kernel says of ``keep``. Raises ValueError, TypeError, KeyError."""
        seconds = message["seconds"]
        if seconds is None:
            self._terms = None
            return
        idle, running = message.get("idle"), message.get("running")
        self._terms = _Terms(
            str(message["token"]),
            float(seconds),
            None if idle is None else float(idle),
            LONGEST_INPUT_SECONDS if running is None else float(running),
        )
        if self._listener is None:
            self._listen()

    def _listen(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        folder = os.open(self._run, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # Under another name until it listens. sun_path holds 107 bytes (unix(7)).
            part = f".{SOCKET}.{os.urandom(8).hex()}"
            path = f"/proc/self/fd/{folder}/{part}"
            sock.bind(path)
            # The kernel's user need not be this one. The folder around it is 0700.
            os.chmod(path, 0o666)
            sock.listen(MAX_REQUESTS)
            os.rename(part, SOCKET, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            sock.close()
            self._terms = None  # a full disk: nobody could find this container
            return
        finally:
            os.close(folder)
        sock.setblocking(False)
        self._listener = sock
        self._poll.register(sock, select.POLLIN)

    # --- the kernel's end, and the next one --------------------------------------------------

    @property
    def is_on(self) -> bool:
        """Return whether the container waits for a kernel."""
        return self._since is not None

    def begin(self) -> bool:
        """Wait for another kernel, as this one has exited. Return False if no terms allow it."""
        if self._terms is None or self._listener is None:
            return False
        self._since = time.monotonic()
        self._take_back_inputs()
        self._check_idle()
        return True

    def _take_back_inputs(self) -> None:
        """Keep inputs from beginning that the dead kernel has sent ahead of their turn."""
        for slot in range(self._slots):
            with contextlib.suppress(OSError):
                tickets = TicketFifo(ticket_fifo.path(self._run, slot))
                while tickets.take(1 << 12):
                    pass
                tickets.close()

    def record_free(self, slot: int) -> None:
        """Record that a lane has nothing more to do for the kernel that has exited."""
        self._free.add(slot)
        if self.is_on:
            self._check_idle()

    def _check_idle(self) -> None:
        if len(self._free) < self._slots or self._idle_since is not None:
            return
        self._idle_since = time.monotonic()
        if self._adopter is not None:
            request, self._adopter = self._adopter, None
            self._begin_connecting(request)

    def take_adopted(self) -> AdoptingKernel | None:
        """Return the connections to a kernel once there are some, and end the wait."""
        found, self._outcome = self._outcome, None
        if found is not None:
            self._since = self._idle_since = None
            self._free.clear()  # the terms stay until the new kernel says what holds
        return found

    # --- deadlines ---------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """Return when `on_deadline` has something to do, in `time.monotonic`."""
        late = min((one.late for one in self._requests.values()), default=math.inf)
        return min(late, self._ends_at()[0])

    def _ends_at(self) -> tuple[float, str]:
        """Return when the wait ends by itself, and why it does."""
        terms = self._terms
        if self._since is None or terms is None or self._connecting:
            return math.inf, ""
        if self._idle_since is None:
            why = "the call of a kernel that has exited did not end"
            return self._since + terms.running, f"{why} within {terms.running:g} s"
        at = self._idle_since + terms.seconds
        why = f"no kernel came back within keep={terms.seconds:g} s"
        if terms.idle is not None and terms.idle < terms.seconds:
            at = self._idle_since + terms.idle
            why = f"it was idle for scaledown_window={terms.idle:g} s"
        return at, why

    def on_deadline(self) -> None:
        """End the wait if its time is over, and drop the requests that are late."""
        now = time.monotonic()
        for request in [one for one in self._requests.values() if one.late <= now]:
            self._drop(request)
        at, why = self._ends_at()
        if at <= now:
            self._stop(why)

    def end(self) -> None:
        """Adopt nothing any more: the container stops."""
        if self._adopter is not None:
            self._refuse(self._adopter, "it stops")
            self._adopter = None
        self._since = None
        self._is_over = True

    # --- requests ----------------------------------------------------------------------------

    def owns(self, fd: int) -> bool:
        """Return whether a descriptor is one of the listener or of a request."""
        is_listener = self._listener is not None and fd == self._listener.fileno()
        return is_listener or fd in self._requests

    def on_readable(self, fd: int) -> None:
        """Accept a connection, or read a request."""
        request = self._requests.get(fd)
        if request is None:
            self._accept()
            return
        try:
            data = request.sock.recv(MAX_REQUEST_BYTES)
            request.size += len(data)
            if request.size > MAX_REQUEST_BYTES:
                raise ValueError("the request is too long")
            lines = request.lines.feed(data)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            data, lines = b"", []
        if not data:
            self._drop(request)
        for one in lines[:1]:
            self._serve(request, one)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock = self._listener.accept()[0]
        except OSError:
            return
        if not _may_ask(sock, self._run):
            sock.close()
            return
        if len(self._requests) >= MAX_REQUESTS:
            self._drop(next(iter(self._requests.values())))
        sock.setblocking(False)
        self._requests[sock.fileno()] = _Request(sock)
        self._poll.register(sock, select.POLLIN)

    def _drop(self, request: _Request) -> None:
        if self._adopter is request:
            self._adopter = None
        if self._requests.pop(request.sock.fileno(), None) is not None:
            self._poll.unregister(request.sock)
        request.sock.close()

    def _serve(self, request: _Request, message: dict[str, Any]) -> None:
        import hmac  # loads OpenSSL, which a container without `keep` need not spend

        given = str(message.get("token")).encode(errors="replace")
        if self._terms is None or not hmac.compare_digest(given, self._terms.token.encode()):
            self._refuse(request, "wrong token")
            return
        request.late = math.inf
        do = message.get("do")
        if do == "status":
            self._answer(request, ok=True, **self._status())
            self._drop(request)
        elif do not in ("adopt", "stop"):
            self._refuse(request, "an unknown request")
        elif not self.is_on:
            self._refuse(request, "a kernel uses it, or it stops")
        elif self._connecting or self._adopter is not None:
            self._refuse(request, "another kernel adopts it")
        elif do == "stop":
            self._answer(request, ok=True)  # its connection ends with this process
            self._stop(str(message.get("why", "it was stopped"))[:1000])
        elif self._idle_since is None:
            self._adopter = request
            self._answer(request, busy=self._running())
        else:
            self._begin_connecting(request)

    def _status(self) -> dict[str, Any]:
        at = self._ends_at()[0]
        left = (
            None if self._idle_since is None or at == math.inf else max(0.0, at - time.monotonic())
        )
        return {
            "kept": self.is_on,
            "left": left,
            "running": self._running(),
            "stops": self._is_over,
        }

    def _running(self) -> int:
        return self._slots - len(self._free)

    def _refuse(self, request: _Request, why: str) -> None:
        self._answer(request, ok=False, why=why)
        self._drop(request)

    def _answer(self, request: _Request, **fields: Any) -> None:
        with contextlib.suppress(OSError):  # it has gone, or does not read
            request.sock.send(encode_line(**fields))

    # --- adoption ----------------------------------------------------------------------------

    def _begin_connecting(self, request: _Request) -> None:
        self._connecting = True
        self._answer(request, ok=True)
        self._drop(request)
        try:
            threading.Thread(target=self._connect, name="adoption", daemon=True).start()
        except RuntimeError:  # a limit on threads: the container goes on to wait
            self._connecting = False

    def _connect(self) -> None:
        """Connect to the kernel. On a thread: the kernel may hang or die at any step."""
        connected = None
        try:
            boot = BootFile.read_and_delete(os.path.join(self._run, "boot.json"))
            if boot.channels != self._slots:
                raise ValueError("the kernel expects another number of connections")
            connected = connect(boot, CONNECT_SECONDS, to_pass_on=True)
            connected.set_timeout(None)
            self._outcome = AdoptingKernel(boot, connected)
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            if connected is not None:
                connected.close()
            print(f"lifecycle_magic: it was not adopted: {error}", flush=True)
        self._connecting = False
        self._wake()


def _may_ask(sock: socket.socket, run: str) -> bool:
    """Return whether the other side is the owner of the run folder, or root."""
    import struct

    if sys.platform != "linux":
        raise NotImplementedError("only Linux can do this")
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS_BYTES)
    user = struct.unpack("3i", found)[1]
    return user in (0, os.stat(run).st_uid, os.geteuid())
