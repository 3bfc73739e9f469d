"""The kernel's end of a control connection: what a container's supervisor says, and is told.

Small things in JSON lines, while inputs and answers go over the slots. It is open for as long as
both ends live, so that its own end tells each of them that the other is gone.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from lifecycle_magic.guest.notes import Lines, line
from lifecycle_magic.monitor import Monitor
from lifecycle_magic.report import Report

__all__ = ["Control", "Exiting", "Printed", "Told"]


@dataclass(frozen=True)
class Printed:
    """Output of the container, as it came. What was ``shown`` goes to its cell by way of a slot."""

    stream: Literal["stdout", "stderr"]
    text: str
    shown: bool


@dataclass(frozen=True)
class Exiting:
    """The worker has begun its ``exit``."""

    why: str


Told = Printed | Exiting | Report
"""What a supervisor says; its report is the last of it."""


class Control:
    """The connection, from `watch` until the supervisor is gone.

    ``on_told`` gets what it says, and ``on_end`` is called once, both on the monitor's thread.
    """

    def __init__(
        self,
        sock: socket.socket,
        monitor: Monitor,
        on_told: Callable[[Told], None],
        on_end: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._monitor = monitor
        self._on_told = on_told
        self._on_end = on_end
        self._lines = Lines()

    def watch(self) -> None:
        """Begin to listen. The end may be there already, and is told at once then."""
        self._monitor.watch(self._sock, self._on_readable)

    def exit(self, why: str) -> None:
        """Have it end the worker in an orderly way: what runs finishes, then ``exit`` does."""
        self._tell(do="exit", why=why)

    def interrupt(self, call: int) -> None:
        """Have it interrupt the running method of this call."""
        self._tell(do="cancel", call=call)

    def _tell(self, **told: object) -> None:
        try:
            self._sock.sendall(line(**told))
        except OSError:
            pass  # its end is on the way to the monitor

    def _on_readable(self) -> None:
        try:
            data = self._sock.recv(1 << 16)
            lines = self._lines.feed(data)
        except (OSError, ValueError):
            data, lines = b"", []
        for one in lines:
            # What makes no sense, or can't be shown, costs nothing of what comes behind it.
            with contextlib.suppress(KeyError, TypeError, AttributeError):
                self._on_told(_read(one))
        if not data:
            self._monitor.unwatch(self._sock)
            self._sock.close()
            self._on_end()


def _read(told: dict[str, Any]) -> Told:
    """What a line says. One that makes no sense raises whatever reading it so raises."""
    event = told["event"]
    if event == "log":
        stream: Literal["stdout", "stderr"] = "stderr" if told["stream"] == "stderr" else "stdout"
        return Printed(stream, str(told["text"]), bool(told["shown"]))
    if event == "exiting":
        return Exiting(str(told["why"]))
    if event == "ended":
        return Report.read(told["report"])
    raise KeyError(event)
