"""Calls of a container by name, of a class that another session serves.

The container's session passes them on and their answers back, as the bytes that they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from lifecycle_magic.exception import InputCancelled, NotFoundError
from lifecycle_magic.guest.session_connection import Answer, SessionLeft
from lifecycle_magic.named.reach import Name
from lifecycle_magic.peers.connection import Listener, PeerConnection
from lifecycle_magic.peers.sessions import sessions
from lifecycle_magic.wire.frames import Kind
from lifecycle_magic.wire.nested import BY_NAME, COLLECT, SPAWN, Ask

__all__ = ["RelayedCall"]


class RelayedCall:
    """A call that runs in another session.

    ``on_answer`` gets each answer, ``on_error`` the error that keeps one from coming.
    """

    def __init__(
        self,
        ask: Ask,
        on_answer: Callable[[Answer], None],
        on_error: Callable[[BaseException], None],
        show: Callable[[str, str], None],
    ) -> None:
        self._ask = ask
        self._on_answer = on_answer
        self._on_error = on_error
        self._show = show
        self._used: PeerConnection | None = None
        self._number = 0
        self.ends_with_caller = ask.form not in (SPAWN, COLLECT)

    def start(self, parts: list[object], listener: Listener) -> None:
        """Pass the call on. May take as long as connecting to a session does.

        ``listener`` is notified when a class of that session is declared again.
        """
        while True:
            used, key = self._reach()
            used.listeners.add(listener)
            self._used = used
            ask = self._ask._replace(key=key, slot=-1)
            with contextlib.suppress(SessionLeft):
                self._number = used.start(ask, parts, self._receive, self._show)
                return

    def _reach(self) -> tuple[PeerConnection, str]:
        if self._ask.form != COLLECT:
            app, _, name = self._ask.key.removeprefix(BY_NAME).partition("/")
            return sessions.reach(Name(app, name))
        used = sessions.of_id(self._ask.key)
        if used is None:
            raise NotFoundError(f"{self._ask.method}: session {self._ask.key} has ended")
        return used, ""

    def _receive(self, answer: Answer) -> None:
        if answer.lost:
            self._on_error(InputCancelled(f"{self._ask.key}: {answer.lost}"))
        else:
            self._on_answer(answer)

    def send(self, kind: int) -> None:
        """Pass on a frame about the call."""
        if self._used is not None and self._number:
            self._used.send(kind, self._number)

    def abandon(self) -> None:
        """Interrupt the method. No caller wants its answer."""
        self.send(Kind.ABANDON)
