"""The connections over which code in a container calls other containers.

The first one is opened when the first such call is made. A call that blocks its thread has a
connection of its own while it runs; all others share one. A forked child opens connections of its
own.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from lifecycle_magic.exception import Error, InvalidError, WireError
from lifecycle_magic.guest import forks
from lifecycle_magic.guest.output import current_lane, lane_here
from lifecycle_magic.guest.serial_connections import SerialCall, SerialConnections
from lifecycle_magic.guest.session_address import session
from lifecycle_magic.guest.session_connection import (
    Answer,
    CallTarget,
    SessionConnection,
    send_outputs,
    shielded,
)
from lifecycle_magic.guest.waiting import Waiting
from lifecycle_magic.wire.frames import Channel
from lifecycle_magic.wire.hello import CALLS, SERIAL, dial, introduce
from lifecycle_magic.wire.nested import BY_NAME, REMOTE, Ask, pack_input
from lifecycle_magic.wire.unpicklable import arguments_error

if TYPE_CHECKING:
    from lifecycle_magic.guest.lane import Lane

__all__ = ["ContainerConnection", "connection", "forget_session"]

_connection: ContainerConnection | None = None
_lock = threading.Lock()


def connection() -> ContainerConnection:
    """Return this process's connection, and open it if need be. Raises `InvalidError`."""
    global _connection
    found = _connection
    if found is not None and not found.is_closed:
        return found
    with shielded(current_lane.get()), _lock:
        if _connection is None or _connection.is_closed:
            _connection = ContainerConnection(*_introduce(CALLS))
        return _connection


def forget_session() -> None:
    """Open a new connection for the next call: another kernel has adopted this container."""
    global _connection
    with _lock:
        _connection = None


def _introduce(role: str) -> tuple[Channel, str]:
    """Connect to the session. Return the channel and the session's id."""
    invitation, run = session()
    if invitation is None:
        raise InvalidError(
            "this process has no connection to the session that serves the class. "
            "Fix: make the call in the method itself, and pass what it returns"
        )
    scheme, _, rest = invitation.address.partition(":")
    address = f"unix:{os.path.join(run, rest)}" if scheme == "unix" else invitation.address
    try:
        return introduce(dial(address), invitation.token, role), invitation.session
    except (OSError, WireError) as error:
        raise Error(f"the session that serves the class can't be reached: {error}") from None


class ContainerConnection(SessionConnection):
    """The connection of a container to its session, and those of its blocking calls."""

    def __init__(self, channel: Channel, session: str) -> None:
        self._serial = _SerialConnections(_open_serial, None, self._on_changed)
        super().__init__(channel, session)

    def call(
        self, target: CallTarget, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Answer | None:
        if target.key.startswith(BY_NAME):
            return None  # what another session serves is passed on over the shared connection
        try:
            payload, buffers = pack_input(target.method, args, kwargs)
        except Exception as error:
            raise arguments_error(target.where, args, kwargs, error) from None
        key, arguments, method, _ = target
        outputs = send_outputs(lane_here())
        lane = _calling_lane()
        slot = lane.slot if lane is not None else -1
        ask = Ask(0, key, arguments, method, REMOTE, slot, outputs=outputs)
        with shielded(lane):  # while a connection is opened
            self._serial.prepare()
        answer = self._serial.ask(ask, payload, buffers)
        if answer is not None and answer.lost:
            return answer._replace(lost=self.end)
        return answer

    def _on_ended(self) -> None:
        self._serial.close()

    def _close_in_forks(self) -> None:
        forks.close_in_child(self._close_in_child)

    def _close_in_child(self) -> None:
        global _connection, _lock
        _connection, _lock = None, threading.Lock()
        self._channel.close_in_child()
        self._serial.close_in_child()


def _open_serial() -> Channel:
    return _introduce(SERIAL)[0]


def _calling_lane() -> Lane | None:
    """Return the lane whose running call this thread or task belongs to, None if there is none."""
    lane = current_lane.get()
    return None if lane is None or lane.target.current is None else lane


class _SerialConnections(SerialConnections):
    """The connections of blocking calls. An interrupt of the running call ends those it waits for.

    A thread that belongs to no running call can't be interrupted, as in plain Python.
    """

    def _run(self, call: SerialCall) -> Answer | None:
        lane = _calling_lane()
        if lane is None:
            return call.run()
        with Waiting(lane.target, call.interrupt):
            answer = call.run()
        if call.is_interrupted:
            raise KeyboardInterrupt
        return answer

    def show(self, stream: str, text: str) -> None:
        """Do nothing: the kernel shows the output of calls."""

    def pass_prompt_on(self, prompt: bytes) -> bool:
        lane = current_lane.get()
        return lane is not None and lane.pass_prompt_on(prompt)
