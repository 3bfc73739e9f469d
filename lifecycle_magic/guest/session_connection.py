"""The connection over which code in a container calls other containers.

It is opened when the first such call is made. The session in the kernel serves it on a thread of
its own, so calls need nothing of the kernel's main thread. One thread here reads the answers. A
forked child opens a connection of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

from lifecycle_magic.exception import Error, InvalidError, WireError
from lifecycle_magic.guest import forks
from lifecycle_magic.guest.output import current_lane
from lifecycle_magic.wire.frames import Channel, Kind
from lifecycle_magic.wire.hello import CALLS, dial, introduce
from lifecycle_magic.wire.nested import Ask, Invitation, number_of, pack_number
from lifecycle_magic.wire.pickling import dumps

if TYPE_CHECKING:
    from lifecycle_magic.guest.lane import Lane

__all__ = ["Answer", "Target", "connection", "set_session"]


class Target(NamedTuple):
    """What a call reaches: a method of the class ``key``, made with pickled ``arguments``."""

    key: str
    arguments: bytes
    method: str
    where: str


class Answer(NamedTuple):
    """One answer to a call: the kind of its frame, a pickle and the buffers outside the pickle."""

    kind: int
    data: Any = b""
    buffers: Sequence[Any] = ()


LOST = Answer(Kind.CANCELLED)
"""What callers get when the connection ends."""

_invitation: Invitation | None = None
_run = ""
_connection: SessionConnection | None = None
_lock = threading.Lock()


def set_session(invitation: Invitation | None, run: str) -> None:
    """Set how this container reaches its session. ``run`` is the run folder."""
    global _invitation, _run
    _invitation, _run = invitation, run


def connection() -> SessionConnection:
    """Return this process's connection, and open it if need be. Raises `InvalidError`."""
    global _connection
    with _shielded(current_lane.get()), _lock:
        if _connection is None or _connection.is_closed:
            _connection = _open()
        return _connection


def _open() -> SessionConnection:
    if _invitation is None:
        raise InvalidError(
            "this process has no connection to the session that serves the class. "
            "Fix: make the call in the method itself, and pass what it returns"
        )
    scheme, _, rest = _invitation.address.partition(":")
    address = f"unix:{os.path.join(_run, rest)}" if scheme == "unix" else _invitation.address
    try:
        channel = introduce(dial(address), _invitation.token, CALLS)
    except (OSError, WireError) as error:
        raise Error(f"the session that serves the class can't be reached: {error}") from None
    return SessionConnection(channel)


class SessionConnection:
    """An open connection. All methods may be called from any thread."""

    def __init__(self, channel: Channel) -> None:
        self.is_closed = False
        self._channel = channel
        self._numbers = itertools.count(1)
        self._receivers: dict[int, Callable[[Answer], None]] = {}
        self._lock = threading.Lock()
        forks.close_in_child(self._close_in_child)
        threading.Thread(target=self._read, name="lifecycle-calls", daemon=True).start()

    def ask(
        self,
        target: Target,
        form: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        receive: Callable[[Answer], None],
    ) -> int:
        """Start a call and return its number. ``receive`` gets each answer, on another thread."""
        data, buffers = _pickle(target.where, args, kwargs)
        lane = current_lane.get()
        slot = lane.slot if lane is not None and lane.target.current is not None else -1
        number = next(self._numbers)
        ask = Ask(number, target.key, target.arguments, target.method, form, slot)
        payload, _ = dumps(ask)
        with _shielded(lane):
            with self._lock:
                self._receivers[number] = receive
                closed = self.is_closed
            try:
                if not closed:
                    self._channel.send(Kind.ASK, payload, [data, *buffers])
            except WireError:
                self._receivers.pop(number, None)
                raise
            except OSError:
                closed = True
            if closed and self._receivers.pop(number, None) is not None:
                receive(LOST)
        return number

    def send(self, kind: int, number: int) -> None:
        """Send a frame about a call: ABANDON or NEXT."""
        with _shielded(current_lane.get()), contextlib.suppress(OSError):
            if kind == Kind.ABANDON:
                self._receivers.pop(number, None)
            self._channel.send(kind, pack_number(number))

    def _read(self) -> None:
        try:
            while (frame := self._channel.receive()) is not None:
                number = number_of(frame.payload)
                if frame.kind == Kind.ITEM:
                    receive = self._receivers.get(number)
                else:
                    receive = self._receivers.pop(number, None)
                if receive is not None:
                    data, *buffers = frame.buffers or (b"",)
                    receive(Answer(frame.kind, data, buffers))
                del frame, receive
        except (OSError, ValueError):
            pass
        with self._lock:
            self.is_closed = True
        for number in list(self._receivers):
            receive = self._receivers.pop(number, None)
            if receive is not None:
                receive(LOST)
        self._channel.close()

    def _close_in_child(self) -> None:
        global _connection, _lock
        _connection, _lock = None, threading.Lock()
        self._channel.close_in_child()


def _shielded(lane: Lane | None) -> AbstractContextManager[Any]:
    """Hold back interrupts of the call on this thread: they must not tear a frame in two."""
    if lane is None:
        return contextlib.nullcontext()
    return lane.target


def _pickle(where: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, list[Any]]:
    from lifecycle_magic.wire.pickling import prepare_args, prepare_kwargs

    try:
        return dumps((prepare_args(args), prepare_kwargs(kwargs)))
    except Exception as error:
        from lifecycle_magic.exception import SerializationError

        raise SerializationError(
            f"{where}: an argument can't be pickled, so it can't be sent to the container: "
            f"{error}. Fix: pass plain data, or create it in the method or in enter"
        ) from None
