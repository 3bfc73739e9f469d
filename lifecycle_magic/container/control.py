"""The kernel's end of a control connection: messages from and to a container's supervisor.

Messages are small JSON lines; inputs and answers use the slots. The connection is open while both
ends live, so its end shows each side that the other has exited.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from lifecycle_magic.guest.json_lines import JsonLineReader, encode_line
from lifecycle_magic.host import checked_json
from lifecycle_magic.lifecycle.report import Report
from lifecycle_magic.threads.event_loop import EventLoop
from lifecycle_magic.wire import clock

__all__ = [
    "ExitStarted",
    "KeepTerms",
    "PrintedOutput",
    "SettleRequest",
    "SupervisorConnection",
    "SupervisorMessage",
    "read",
]


class KeepTerms(NamedTuple):
    """The terms on which a container waits for another kernel. Times are in seconds.

    It waits ``seconds``, or only ``idle`` if that is less. Inputs of the kernel that has exited may
    run for ``running``; None means the container's own bound. ``token`` proves to the container
    that another kernel may adopt it.
    """

    token: str
    seconds: float
    idle: float | None
    running: float | None


@dataclass(frozen=True)
class PrintedOutput:
    """Output of the container. Output that was ``shown`` also reaches its cell through a slot."""

    stream: Literal["stdout", "stderr"]
    text: str
    shown: bool


@dataclass(frozen=True)
class ExitStarted:
    """The worker has begun to run its ``exit`` hook."""

    why: str


@dataclass(frozen=True)
class SettleRequest:
    """The worker waits until the output before this message is shown."""

    number: int


SupervisorMessage = PrintedOutput | ExitStarted | SettleRequest | Report
"""A message of a supervisor. Its report is the last one."""


class SupervisorConnection:
    """A control connection, from `watch` until the supervisor has exited.

    ``on_message`` gets each message and ``on_end`` is called once, both on the event loop's thread.
    """

    def __init__(
        self,
        sock: socket.socket,
        event_loop: EventLoop,
        on_message: Callable[[SupervisorMessage], None],
        on_end: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._event_loop = event_loop
        self._on_message = on_message
        self._on_end = on_end
        self._lines = JsonLineReader()

    def watch(self) -> None:
        """Start to receive messages. A connection that has ended already is reported at once."""
        self._event_loop.watch(self._sock, self._on_readable)

    def exit(self, why: str, *, at_once: bool = False) -> None:
        """Ask the supervisor to end the worker: running inputs finish, then ``exit`` runs.

        With ``at_once``, running inputs are interrupted.
        """
        self._send(do="exit", why=why, at_once=at_once)

    def keep(self, terms: KeepTerms | None) -> None:
        """Say how the container waits for another kernel when this one exits; None: it ends."""
        if terms is None:
            self._send(do="keep", seconds=None)
        else:
            self._send(do="keep", **terms._asdict())

    def shut_down(self) -> None:
        """End the connection, as the exit of this process would."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def interrupt(self, call: int, began: float) -> None:
        """Ask the supervisor to interrupt a call's method, which began at ``began``
        (`time.monotonic`).

        A supervisor on another machine has another clock and uses the elapsed seconds.
        """
        seconds = time.monotonic() - began
        since = clock.from_monotonic(began)
        self._send(do="cancel", call=call, clock=clock.name(), since=since, seconds=seconds)

    def confirm_shown(self, number: int) -> None:
        """Notify the worker that the output before its request is shown."""
        self._send(do="settled", number=number)

    def _send(self, **message: object) -> None:
        try:
            self._sock.sendall(encode_line(**message))
        except OSError:
            pass  # the event loop is about to see the end of the connection

    def _on_readable(self) -> None:
        try:
            data = self._sock.recv(1 << 16)
            lines = self._lines.feed(data)
        except (OSError, ValueError):
            data, lines = b"", []
        for one in lines:
            # An invalid message must not affect the messages after it.
            with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
                self._on_message(read(one))
        if not data:
            self._event_loop.unwatch(self._sock)
            self._sock.close()
            self._on_end()


def read(message: dict[str, Any]) -> SupervisorMessage:
    """Return the message in a line. Raises `ValueError` for an invalid one."""
    event = message.get("event")
    if event == "log":
        stream: Literal["stdout", "stderr"] = (
            "stderr" if message.get("stream") == "stderr" else "stdout"
        )
        text = checked_json.string("text", message.get("text"))
        return PrintedOutput(stream, text, checked_json.flag("shown", message.get("shown")))
    if event == "settle":
        return SettleRequest(checked_json.integer("number", message.get("number")))
    if event == "exiting":
        return ExitStarted(checked_json.string("why", message.get("why")))
    if event == "ended":
        return Report.read(message.get("report"))
    raise ValueError("an unknown event")
