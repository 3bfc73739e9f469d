"""A connection over which this process calls classes of another session by name."""

from __future__ import annotations

import functools
import os
import threading
import weakref
from contextlib import AbstractContextManager
from contextvars import Context, copy_context
from typing import Any, Protocol

from lifecycle_magic.exception import Error, InvalidError, WireError
from lifecycle_magic.guest.session_connection import (
    Answer,
    CallTarget,
    SessionConnection,
    Show,
    pickle_arguments,
)
from lifecycle_magic.host.served_names import Served
from lifecycle_magic.host.user_of_socket import is_own_user
from lifecycle_magic.named.handle_transfer import handle_of_key, to_another_session
from lifecycle_magic.peers.serial import PeerSerialConnections
from lifecycle_magic.pool.printing import show
from lifecycle_magic.threads.context import run_with
from lifecycle_magic.threads.sigint import deferred
from lifecycle_magic.wire.frame_header import PROTOCOL
from lifecycle_magic.wire.frames import Channel
from lifecycle_magic.wire.hello import NAMED, SERIAL, dial, introduce
from lifecycle_magic.wire.nested import pack_input
from lifecycle_magic.wire.pickling import is_simple
from lifecycle_magic.wire.python_versions import python_minor
from lifecycle_magic.wire.unpicklable import arguments_error

__all__ = ["DeclarationListener", "PeerConnection", "Unreachable", "connect"]

_END_SECONDS = 2.0
"""Seconds after the end of one connection in which the others of an ended session end, too."""

_open: weakref.WeakSet[PeerConnection] = weakref.WeakSet()


class Unreachable(Error):
    """A session does not answer. It may have ended since its record was read."""


class DeclarationListener(Protocol):
    """An object that is notified of new declarations: see `PeerConnection.listeners`."""

    def on_change(self) -> None:
        """React to the change. On any thread."""


class PeerConnection(SessionConnection):
    """An open connection to the session ``served``. What its calls print is shown here."""

    def __init__(self, channel: Channel, served: Served) -> None:
        self.listeners: weakref.WeakSet[DeclarationListener] = weakref.WeakSet()
        self.served = served
        self.end = f"{served.who}, which served it, has ended"
        self._serial = PeerSerialConnections(
            lambda: _introduce(served, SERIAL), self.far, self._on_changed
        )
        self._ended = threading.Event()
        super().__init__(channel, served.session)

    def call(
        self, target: CallTarget, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Answer | None:
        try:
            if is_simple((0, target.method, args, kwargs)):  # so there is no handle among them
                payload, buffers = pack_input(target.method, args, kwargs)
            else:
                payload, buffers = run_with(
                    to_another_session, True, pack_input, target.method, args, kwargs
                )
        except Exception as error:
            raise arguments_error(target.where, args, kwargs, error) from None
        answer = self._serial.call(target, payload, buffers)
        if answer is not None and answer.lost:
            # The next call looks for another session if this one has ended.
            has_ended = self._ended.wait(_END_SECONDS)
            lost = self.end if has_ended else f"the connection to {self.served.who} broke"
            return answer._replace(lost=lost)
        return answer

    def _on_ended(self) -> None:
        self._serial.close()
        if self.is_closed:
            self._ended.set()

    def _pickle(
        self, where: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, list[Any]]:
        return run_with(to_another_session, True, pickle_arguments, where, args, kwargs)

    far = staticmethod(handle_of_key)

    def _on_changed(self) -> None:
        super()._on_changed()
        for listener in list(self.listeners):
            listener.on_change()

    def _shielded(self) -> AbstractContextManager[Any]:
        return deferred()

    def _shower(self) -> Show | None:
        return functools.partial(_show_in, copy_context())

    def _close_in_forks(self) -> None:
        _open.add(self)

    def _close_in_child(self) -> None:
        self.is_closed = True
        self._channel.close_in_child()
        self._serial.close_in_child()


def _show_in(context: Context, stream: str, text: str) -> None:
    """Print in the cell that made a call. A context can't be entered twice, so it is copied."""
    context.copy().run(show, stream, text)


def connect(served: Served) -> PeerConnection:
    """Connect to a session.

    Raises `InvalidError` for one with another Python minor or protocol, and `Error` if it does not
    answer or runs as another user.
    """
    if (served.protocol, served.python) != (PROTOCOL, python_minor()):
        raise InvalidError(
            f"{served.who} has Python {served.python} and speaks protocol {served.protocol}, but "
            f"this process has Python {python_minor()} and speaks protocol {PROTOCOL}. "
            "Fix: run both with the same Python and the same release of lifecycle_magic"
        )
    try:
        channel = _introduce(served, NAMED)
    except (OSError, WireError, Error) as error:
        raise Unreachable(f"{served.who} can't be reached: {error}") from None
    return PeerConnection(channel, served)


def _introduce(served: Served, role: str) -> Channel:
    """Connect to a session, and check that it is this user's."""
    sock = dial(served.address)
    try:
        if not is_own_user(sock):  # before it gets the token
            raise Error(f"the socket of session {served.session} belongs to another user")
        return introduce(sock, served.token(), role)
    except BaseException:
        sock.close()
        raise


def _in_forked_child() -> None:
    for connection in list(_open):
        connection._close_in_child()


os.register_at_fork(after_in_child=_in_forked_child)
