"""The supervisor's end of the control connection: messages of the kernel, events for the kernel.

The connection belongs to the supervisor's poll and never blocks it. A container that waits for its
next kernel has none.
"""

from __future__ import annotations

import select
import socket
from typing import Any

from lifecycle_magic.guest.json_lines import JsonLineReader

__all__ = ["ControlConnection"]

MAX_BACKLOG_BYTES = 1 << 20
"""Bytes of output that wait for a kernel which does not read. More output only goes to the log."""


class ControlConnection:
    """The control connection of the moment, watched by ``poll``."""

    def __init__(self, poll: select.poll) -> None:
        self._poll = poll
        self._sock: socket.socket | None = None
        self._lines = JsonLineReader()
        self._backlog = bytearray()

    @property
    def is_open(self) -> bool:
        """Return whether a kernel is connected."""
        return self._sock is not None

    @property
    def is_behind(self) -> bool:
        """Return whether so much waits for the kernel that output is not to be added."""
        return len(self._backlog) >= MAX_BACKLOG_BYTES

    def open(self, sock: socket.socket) -> None:
        """Watch the connection to a kernel, which replaces the previous one."""
        sock.setblocking(False)
        self._sock = sock
        self._lines = JsonLineReader()
        self._poll.register(sock, select.POLLIN)

    def owns(self, fd: int) -> bool:
        """Return whether ``fd`` is the connection."""
        return self._sock is not None and fd == self._sock.fileno()

    def receive(self) -> list[dict[str, Any]]:
        """Send what waits, and return the messages that arrived.

        The connection is closed if it has ended, or brings what is no message.
        """
        assert self._sock is not None
        self._send()
        try:
            data = self._sock.recv(1 << 16)
            messages = self._lines.feed(data)
        except BlockingIOError:
            return []
        except (OSError, ValueError):
            data, messages = b"", []
        if not data:
            self._poll.unregister(self._sock)
            self._sock.close()
            self._sock = None
            self._backlog.clear()
        return messages

    def queue(self, event: bytes) -> None:
        """Send an encoded event as soon as the kernel takes it. Do nothing without a kernel."""
        if self._sock is not None:
            self._backlog += event
            self._send()

    def finish(self, event: bytes, seconds: float) -> None:
        """Send the last event, for which the kernel has ``seconds``, and close the connection."""
        if self._sock is not None:
            self._sock.settimeout(seconds)
            self.queue(event)
            self._sock.close()

    def _send(self) -> None:
        """Send as much of the backlog as the socket takes now. The poll reports when it takes
        more.
        """
        if self._sock is None:
            return
        try:
            while self._backlog:
                del self._backlog[: self._sock.send(self._backlog)]
        except BlockingIOError:
            pass
        except OSError:
            self._backlog.clear()  # the reading side handles the error
        self._poll.modify(self._sock, select.POLLIN | (select.POLLOUT if self._backlog else 0))
