"""Calls of a container by name, of a class that another session serves.

The container's session passes them on and their answers back, as the bytes that they are.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from lifecycle_magic.calls import circles
from lifecycle_magic.exception import InputCancelled, NotFoundError
from lifecycle_magic.guest.session_connection import Answer, SessionLeft
from lifecycle_magic.named.reach import Name
from lifecycle_magic.peers.connection import DeclarationListener, PeerConnection
from lifecycle_magic.peers.sessions import sessions
from lifecycle_magic.wire.frames import Kind
from lifecycle_magic.wire.nested import BY_NAME, COLLECT, ITEMS, REMOTE, SPAWN, Ask

if TYPE_CHECKING:
    from lifecycle_magic.services.call_sources import CallOrigin

__all__ = ["RelayedCall", "refuse"]


class RelayedCall:
    """A call that runs in another session.

    ``on_answer`` gets each answer, ``on_error`` the error that keeps one from coming. The caller in
    ``origin`` waits for the answer of REMOTE, for each item of ITEMS from the request to its
    arrival, and for SPAWN from `wait` on.
    """

    def __init__(
        self,
        ask: Ask,
        on_answer: Callable[[Answer], None],
        on_error: Callable[[BaseException], None],
        show: Callable[[str, str], None],
        origin: CallOrigin,
    ) -> None:
        self._ask = ask._replace(slot=-1, wait=os.urandom(8).hex())
        self.origin = origin
        self._caller = caller = origin.caller
        self._is_awaited = ask.form in (REMOTE, ITEMS)
        self._is_read = ask.form == ITEMS and caller is not None
        self._has_ended = False
        self._on_answer = on_answer
        self._on_error = on_error
        self._show = show
        self._used: PeerConnection | None = None
        self._number = 0
        self._early: list[int] = []  # frames that came before there was a number
        self._number_lock = threading.Lock()
        self.ends_with_caller = ask.form not in (SPAWN, COLLECT)

    def start(self, parts: list[object], listener: DeclarationListener) -> None:
        """Pass the call on. May take as long as connecting to a session does.

        ``listener`` is notified when a class of that session is declared again.
        """
        while True:
            used, key = self._reach()
            used.listeners.add(listener)
            self._used = used
            if self._is_awaited:
                self.wait()
            ask = self._ask._replace(key=key)
            try:
                number = used.start(ask, parts, self._receive, self._show)
            except SessionLeft:
                continue
            except BaseException:
                self._on_end()
                raise
            # By now the first item may have arrived, and its reader may have asked for the next.
            with self._number_lock:
                self._number = number
            for kind in self._early:
                used.send(kind, number)
            return

    def wait(self) -> None:
        """Note that the caller waits for the answer. On any thread, at any time."""
        self._is_awaited = True
        if self._caller is not None and self._used is not None:
            circles.add_relayed(self._caller, self._ask.wait, self._used.session)
            if self._is_read:
                circles.add_reader(self._caller, self._ask.wait, self._used.session)
            _open[self._ask.wait] = self
            if self._has_ended:  # meanwhile
                self._on_end()

    def _reach(self) -> tuple[PeerConnection, str]:
        if self._ask.form != COLLECT:
            app, _, name = self._ask.key.removeprefix(BY_NAME).partition("/")
            return sessions.reach(Name(app, name))
        used = sessions.of_id(self._ask.key)
        if used is None:
            raise NotFoundError(f"{self._ask.method}: session {self._ask.key} has ended")
        return used, self._ask.key

    def _receive(self, answer: Answer) -> None:
        if answer.kind != Kind.ITEM:
            self._on_end()
        elif self._caller is not None:  # which does something else until it asks for the next
            circles.remove_relayed(self._caller, self._ask.wait)
        if answer.lost:
            self._on_error(InputCancelled(f"{self._ask.key}: {answer.lost}"))
        else:
            self._on_answer(answer)

    def send(self, kind: int) -> None:
        """Pass on a frame about the call."""
        if kind == Kind.NEXT and not self._has_ended:
            self.wait()
        with self._number_lock:
            if not self._number:
                self._early.append(kind)
                return
        if self._used is not None:
            self._used.send(kind, self._number)

    def abandon(self) -> None:
        """Interrupt the method. No caller wants its answer."""
        self.send(Kind.ABANDON)
        self._on_end()

    def refuse(self, error: BaseException) -> None:
        """End a call that can never be answered with an error."""
        if not self._has_ended:
            self.abandon()
            self._on_error(error)

    def _on_end(self) -> None:
        self._has_ended = True
        if self._caller is not None:
            circles.remove_relayed(self._caller, self._ask.wait)
            if self._is_read:
                circles.remove_reader(self._caller, self._ask.wait)


def refuse(wait_id: str, error: BaseException) -> None:
    """End the call that another session knows by ``wait_id``, if it is this session's."""
    call = _open.get(wait_id)
    if call is not None:
        call.refuse(error)


_open: weakref.WeakValueDictionary[str, RelayedCall] = weakref.WeakValueDictionary()
