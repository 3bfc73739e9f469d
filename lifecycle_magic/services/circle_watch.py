"""Finds calls that wait for each other for ever through several sessions, and fails the newest one.

A circle within a session is found when a call closes it (`lifecycle_magic.calls.circles`). No
session sees a circle through another one, so those that have calls there, and calls that wait at a
full pool here, ask once in a while. So do those in which a generator that another input reads waits
for a call: its reader may close the circle without a call.
"""

from __future__ import annotations

import logging
import threading

from lifecycle_magic.calls import circles
from lifecycle_magic.calls.far_circles import Circle, Graph, find_circle, merge
from lifecycle_magic.exception import Error, InvalidError
from lifecycle_magic.guest.session_answers import Wait, value_of
from lifecycle_magic.guest.session_connection import CallTarget, SessionLeft
from lifecycle_magic.peers.sessions import sessions
from lifecycle_magic.services import relayed_calls
from lifecycle_magic.threads.event_loop import EventLoop
from lifecycle_magic.wire.frames import Kind
from lifecycle_magic.wire.nested import WAITS

__all__ = ["CircleWatch"]

_log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Seconds between two looks, so a circle fails within two seconds."""

_ANSWER_SECONDS = 5.0
"""Seconds that another session has to answer. One that does not is no part of a circle."""


class CircleWatch:
    """The looks of one session, whose id is ``session``."""

    def __init__(self, session: str, event_loop: EventLoop) -> None:
        self._session = session
        self._event_loop = event_loop
        self._is_due = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Look from now on, until no input waits for another session, and no generator waits."""
        with self._lock:
            if self._is_due:
                return
            self._is_due = True
        self._event_loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        with self._lock:
            self._is_due = False
        if not circles.has_relayed() and not circles.has_waiting_generators():
            return
        own = circles.graph(self._session)
        if not own.full and not circles.has_readers():  # no call of this session is to fail
            self.start()
            return
        try:
            threading.Thread(target=self._ask, name="lifecycle-circles", daemon=True).start()
        except RuntimeError:  # a limit on threads
            self.start()

    def _ask(self) -> None:
        try:
            found = self._find()
            if found is not None and found == self._find():
                self._fail(found)
        except Exception:
            _log.exception("looking for circles of calls failed")
        finally:
            self.start()

    def _find(self) -> Circle | None:
        graphs = {self._session: circles.graph(self._session)}
        while True:
            known = merge(list(graphs.values()))
            missing = known.sessions - graphs.keys()
            if not missing:
                return find_circle(known)
            for session in missing:
                graphs[session] = _graph_of(session)

    def _fail(self, circle: Circle) -> None:
        error = InvalidError(circle.message)
        call = circles.find_queued(circle.call, self._session)
        if call is None:  # its session need not look: it may have no call elsewhere
            for name in circle.aliases:
                relayed_calls.refuse(name, error)
        elif call.pool.withdraw(call):
            call.refused(error)


def _graph_of(session: str) -> Graph:
    """Return what another session knows; nothing if it does not answer."""
    waiting = Wait()
    try:
        used = sessions.of_id(session)
        if used is None:
            return Graph.empty()
        number = used.ask(CallTarget("", b"", "", session), WAITS, (), {}, waiting.receive)
        answer = waiting.wait(_ANSWER_SECONDS)
        if answer is None:
            used.send(Kind.ABANDON, number)
            return Graph.empty()
        found: Graph = value_of(answer, session)
        return found
    except (Error, OSError, SessionLeft):
        return Graph.empty()
