"""Connections for calls of methods elsewhere that block: one call at a time on each.

The calling thread writes the call and reads its answer. No other thread of this process is
involved, and the session has a thread for each connection, so an answer crosses no thread at all.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from lifecycle_magic.exception import Error, WireError
from lifecycle_magic.guest.session_connection import Answer
from lifecycle_magic.wire import shared
from lifecycle_magic.wire.frames import INBOX_BYTES, Channel, Kind
from lifecycle_magic.wire.messages import output
from lifecycle_magic.wire.nested import Ask
from lifecycle_magic.wire.pickling import Buffer, dumps

__all__ = ["MAX_CONNECTIONS", "SerialCall", "SerialConnections"]

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
        far: Callable[[str, bool], Any] | None,
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
        self._trimmer: threading.Timer | None = None

    def ask(self, ask: Ask, payload: bytes, buffers: list[Buffer]) -> Answer | None:
        """Make a call and return its answer. None if there is no connection for it.

        The answer's ``lost`` is set if the connection has ended.
        """
        if not self.prepare():
            return None
        return self._run(SerialCall(self, ask, payload, buffers))

    # --- what differs between a container and another process --------------------------------

    def _run(self, call: SerialCall) -> Answer | None:
        """Run a call. An interrupt of this thread meanwhile calls `SerialCall.interrupt`."""
        raise NotImplementedError

    def show(self, stream: str, text: str) -> None:
        """Show output of a call, on the thread that waits for it."""
        raise NotImplementedError

    def pass_prompt_on(self, prompt: bytes) -> bool:
        """Ask where the call was made, on the thread that waits for it. False if that can't be.

        ``prompt`` is the content of a PROMPT frame.
        """
        return False

    # --- connections -------------------------------------------------------------------------

    def prepare(self) -> bool:
        """Open a connection if none is idle. Return whether there is one now."""
        return bool(self._idle) or self._add()

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
        elif self._trimmer is None and connection.holds_memory:
            self._trim_later()

    def discard(self, connection: _Connection) -> None:
        """Close a connection, which interrupts the call that runs there."""
        self._all.discard(connection)
        connection.channel.close()

    def discard_ended(self) -> None:
        """Close the idle connections that the session has ended, before a call takes one."""
        for connection in list(self._idle):
            with contextlib.suppress(ValueError):  # a call or `close` has just taken it
                if _is_readable(connection.channel.sock):  # an idle one has nothing else to read
                    self._idle.remove(connection)
                    self.discard(connection)

    def _trim_later(self) -> None:
        """Return shared memory to the system later: no thread reads an idle connection."""
        self._trimmer = threading.Timer(shared.IDLE_SECONDS, self._trim)
        self._trimmer.daemon = True
        self._trimmer.start()

    def _trim(self) -> None:
        self._trimmer = None
        memory = [one.channel.shared for one in list(self._all)]
        left = [one for one in memory if one is not None and one.trim()]
        if left and not self._is_closed:
            self._trim_later()

    def receive(self, channel: Channel, number: int) -> Answer | None:
        """Return the answer to a call, None if the connection ended. Show its output."""
        while True:
            frame = channel.receive()
            if frame is None:
                return None
            kind = frame.kind
            if kind == Kind.OUTPUT:
                if frame.tag == number:  # not of an earlier call
                    self.show(*output(frame.payload))
            elif kind == Kind.CHANGED:
                self._on_changed()
            elif frame.tag != number:
                raise WireError("the answer to another call")
            elif kind == Kind.PROMPT:
                if not self.pass_prompt_on(bytes(frame.payload)):
                    channel.send(Kind.PROMPT, b"", (), number)
            else:
                data: Any = frame.payload
                if len(data) <= INBOX_BYTES:  # the next frame may take its place
                    data = bytes(data)
                return Answer(kind, data, frame.buffers, far=self._far)

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
    __slots__ = ("ask", "channel", "number")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.ask: Ask | None = None  # the last one
        self.number = 0  # of the last call

    @property
    def holds_memory(self) -> bool:
        """True if the connection has shared memory."""
        memory = self.channel.shared
        return memory is not None and bool(memory.mine or memory.theirs)


class SerialCall:
    """One call. An interrupt ends its connection, which interrupts the method."""

    __slots__ = ("_ask", "_buffers", "_connection", "_owner", "_payload", "is_interrupted")

    def __init__(
        self, owner: SerialConnections, ask: Ask, payload: bytes, buffers: list[Buffer]
    ) -> None:
        self._owner = owner
        self._connection: _Connection | None = None
        self._ask = ask
        self._payload = payload
        self._buffers = buffers
        self.is_interrupted = False

    def interrupt(self) -> None:
        """End the connection. In a signal handler."""
        self.is_interrupted = True
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
            if not self.is_interrupted and self._send(connection, number):
                with contextlib.suppress(OSError, WireError):
                    answer = self._owner.receive(connection.channel, number)
        finally:
            self._connection = None  # from here on, an interrupt ends no connection
            if answer is None or self.is_interrupted:
                self._owner.discard(connection)
            else:
                self._owner.give_back(connection)
        if answer is not None:
            return answer
        if self.is_interrupted:
            return Answer(Kind.CANCELLED)
        self._owner.discard_ended()  # what broke this one may have broken all of them
        return Answer(Kind.CANCELLED, lost="the connection broke")

    def _send(self, connection: _Connection, number: int) -> bool:
        """Send the call. Return False if the connection has ended; raises `WireError`."""
        ask, payload, buffers = self._ask, self._payload, self._buffers
        try:
            if ask is connection.ask or ask == connection.ask:
                connection.channel.send(Kind.AGAIN, payload, buffers, number)
            else:
                connection.channel.send(Kind.ASK, dumps(ask)[0], [payload, *buffers], number)
                connection.ask = ask
        except WireError:
            raise
        except OSError:
            return False
        return True


def _is_readable(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
