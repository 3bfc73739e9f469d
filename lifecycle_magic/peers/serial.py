"""Connections of this process for calls by name that block: one call at a time on each.

The calling thread writes the call and reads its answer. No other thread of this process is
involved, and the session has a thread for each connection, so an answer crosses no thread at all.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from lifecycle_magic.exception import Error, WireError
from lifecycle_magic.guest.session_connection import Answer, CallTarget
from lifecycle_magic.pool.printing import show
from lifecycle_magic.threads.sigint import run_forwarding
from lifecycle_magic.wire.frames import INBOX_BYTES, Channel, Kind
from lifecycle_magic.wire.messages import output
from lifecycle_magic.wire.nested import REMOTE, Ask
from lifecycle_magic.wire.pickling import Buffer, dumps

__all__ = ["MAX_CONNECTIONS", "SerialConnections"]

MAX_CONNECTIONS = 16
"""Connections to one session, each of which has two threads there. Calls of further threads that
block at the same time share the connection of the other calls.
"""

_LAST_NUMBER = 0xFFFF  # of a call: it is the tag of a frame


class SerialConnections:
    """The connections to one session. ``open`` makes one more. Safe from any thread.

    ``far`` is that of the answers: see `Answer`. ``on_changed`` is called when the session has
    declared a class again.
    """

    def __init__(
        self,
        open: Callable[[], Channel],
        far: Callable[[str, bool], Any],
        on_changed: Callable[[], None],
    ) -> None:
        self._open = open
        self._far = far
        self._on_changed = on_changed
        self._idle: deque[_Connection] = deque()
        self._all: set[_Connection] = set()
        self._opening: set[int] = set()  # threads; an interrupt of one may leave it here
        self._lock = threading.Lock()
        self._is_closed = False

    def call(self, target: CallTarget, payload: bytes, buffers: list[Buffer]) -> Answer | None:
        """Make a call and return its answer. None if there is no connection for it.

        The answer's ``lost`` is set if the connection has ended.
        """
        if not self._idle and not self._add():
            return None
        call = _Call(self, target, payload, buffers)
        return run_forwarding(call.interrupt, _Call.run, call)

    def _add(self) -> bool:
        """Open one more connection, and return whether there is one now."""
        with self._lock:
            if self._is_closed or len(self._all) + len(self._opening) >= MAX_CONNECTIONS:
                return False
            self._opening.add(threading.get_ident())
        try:
            connection = _Connection(self._open())
            self._all.add(connection)
            self.give_back(connection)
            return True
        except (OSError, WireError, Error):  # the calls that share a connection report it
            return False
        finally:
            self._opening.discard(threading.get_ident())

    def take(self) -> _Connection | None:
        """Return a connection that no other call uses until `give_back` or `discard`."""
        try:
            return self._idle.pop()
        except IndexError:  # another thread was faster
            return None

    def give_back(self, connection: _Connection) -> None:
        """Let another call use a connection that waits for no answer."""
        self._idle.append(connection)
        if self._is_closed:
            self.close()

    def discard(self, connection: _Connection) -> None:
        """Close a connection, which interrupts the call that runs there."""
        self._all.discard(connection)
        connection.channel.close()

    def receive(self, channel: Channel, number: int) -> Answer | None:
        """Return the answer to a call, None if the connection ended. Show its output."""
        while True:
            frame = channel.receive()
            if frame is None:
                return None
            if frame.kind == Kind.OUTPUT:
                if frame.tag == number:  # not of an earlier call
                    show(*output(frame.payload))
            elif frame.kind == Kind.CHANGED:
                self._on_changed()
            elif frame.tag != number:
                raise WireError("the answer to another call")
            else:
                data: Any = frame.payload
                if len(data) <= INBOX_BYTES:  # the next frame may take its place
                    data = bytes(data)
                return Answer(frame.kind, data, frame.buffers, far=self._far)

    def close(self) -> None:
        """Close the connections, each after its call. Later calls get none."""
        self._is_closed = True
        with contextlib.suppress(IndexError):
            while True:
                self.discard(self._idle.pop())

    def close_in_child(self) -> None:
        """Close in a forked child what belongs to its parent."""
        self._is_closed = True
        for connection in list(self._all):
            connection.channel.close_in_child()


class _Connection:
    __slots__ = ("channel", "number", "target")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.target: CallTarget | None = None  # of the last call
        self.number = 0  # of the last call


class _Call:
    """One call. SIGINT ends its connection, which interrupts the method."""

    __slots__ = ("_buffers", "_connection", "_is_interrupted", "_owner", "_payload", "_target")

    def __init__(
        self, owner: SerialConnections, target: CallTarget, payload: bytes, buffers: list[Buffer]
    ) -> None:
        self._owner = owner
        self._connection: _Connection | None = None
        self._target = target
        self._payload = payload
        self._buffers = buffers
        self._is_interrupted = False

    def interrupt(self) -> None:
        """End the connection. In a signal handler."""
        self._is_interrupted = True
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.channel.sock.shutdown(socket.SHUT_RDWR)

    def run(self) -> Answer | None:
        """Send the call, show its output and return its answer. None without a connection."""
        connection = self._connection = self._owner.take()
        if connection is None:
            return None
        connection.number = number = connection.number % _LAST_NUMBER + 1
        answer: Answer | None = None
        try:
            # An interrupt may have come before there was a connection to end.
            if not self._is_interrupted and self._send(connection, number):
                with contextlib.suppress(OSError, WireError):
                    answer = self._owner.receive(connection.channel, number)
        finally:
            self._connection = None  # from here on, an interrupt ends no connection
            if answer is None or self._is_interrupted:
                self._owner.discard(connection)
            else:
                self._owner.give_back(connection)
        if answer is not None:
            return answer
        return Answer(Kind.CANCELLED, lost="" if self._is_interrupted else "the connection broke")

    def _send(self, connection: _Connection, number: int) -> bool:
        """Send the call. Return False if the connection has ended; raises `WireError`."""
        target, payload, buffers = self._target, self._payload, self._buffers
        try:
            if target == connection.target:
                connection.channel.send(Kind.AGAIN, payload, buffers, number)
            else:
                ask = Ask(0, target.key, target.arguments, target.method, REMOTE, -1)
                connection.channel.send(Kind.ASK, dumps(ask)[0], [payload, *buffers], number)
                connection.target = target
        except WireError:
            raise
        except OSError:
            return False
        return True
