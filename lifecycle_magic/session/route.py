"""The way from this process to classes by name: its own ones, or those of other sessions."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, InvalidStateError
from typing import Any

from lifecycle_magic.calls.forwarded import ForwardedAnswer, ForwardedFailure
from lifecycle_magic.exception import NotFoundError
from lifecycle_magic.guest.session_answers import value_of
from lifecycle_magic.guest.session_connection import Answer, SessionConnection
from lifecycle_magic.handles.cls import Cls
from lifecycle_magic.handles.function import Function
from lifecycle_magic.host.paths import state_root
from lifecycle_magic.host.served_names import living
from lifecycle_magic.named import reach
from lifecycle_magic.named.reach import Name
from lifecycle_magic.peers.sessions import sessions
from lifecycle_magic.session import session
from lifecycle_magic.session.served_calls import named
from lifecycle_magic.spec.class_spec import CALL
from lifecycle_magic.wire.frames import Kind

__all__ = ["KernelRoute", "check_app"]


class KernelRoute:
    """The route of a process that is no container."""

    def own(self, name: Name) -> Any:
        """Return this process's own handle of that name, or None."""
        found = named.get(str(name))
        if found is None:
            return None
        handle = Cls(found)
        if not found.spec.is_function:
            return handle
        return Function(handle, vars(found.spec.cls)[CALL].__func__)

    def reach(self, name: Name) -> tuple[SessionConnection, str]:
        """Return the connection to the session that serves ``name``, and the key of the class
        there.
        """
        return sessions.reach(name)

    def forget(self, name: Name) -> None:
        """Look ``name`` up again at its next use."""
        sessions.forget(name)

    def reach_session(self, session_id: str) -> SessionConnection | None:
        """Return the connection to the session with this id, None if it does not live."""
        return sessions.of_id(session_id)

    def kept_here(self, session_id: str, id: str) -> tuple[Future[Any], str] | None:
        """Return a call that this process's own session keeps, None if it is another session.

        Raises `NotFoundError` if it does not keep the call.
        """
        opened = session.opened()
        if opened is None or opened.id != session_id:
            return None
        kept = opened.served_calls.kept_calls.find(id)
        return _read_here(kept.future, kept.where), kept.where


def check_app(name: str) -> None:
    """Raise `NotFoundError` if no living session declares an app of this name."""
    own = {key.partition("/")[0] for key in named}
    others = {app for served in living(state_root()) for app in served.names}
    if name not in own | others:
        there = f"; there are {', '.join(sorted(own | others))}" if own | others else ""
        raise NotFoundError(
            f"no session of this user declares the app {name}{there}. "
            f'Fix: run the notebook or script with lm.App("{name}")'
        )


def _read_here(kept: Future[Any], where: str) -> Future[Any]:
    """Return a future whose value is read in this process, also if its caller is in another one."""
    future: Future[Any] = Future()

    def on_done(done: Future[Any]) -> None:
        if done.cancelled():
            future.cancel()
            return
        error, value = done.exception(), None
        if isinstance(error, ForwardedFailure):
            error = _error_in(error, where)
        elif error is None:
            value = done.result()
        if isinstance(value, ForwardedAnswer):
            try:
                value = value_of(Answer(Kind.RESULT, value.data, value.buffers), where)
            except Exception as unreadable:
                error = unreadable
        with contextlib.suppress(InvalidStateError):  # cancelled meanwhile
            future.set_result(value) if error is None else future.set_exception(error)

    kept.add_done_callback(on_done)
    future.add_done_callback(lambda done: kept.cancel() if done.cancelled() else None)
    return future


def _error_in(failure: ForwardedFailure, where: str) -> BaseException:
    try:
        value_of(Answer(Kind.FAILURE, failure.answer.data, failure.answer.buffers), where)
    except BaseException as error:
        return error
    return failure


reach.set_route(KernelRoute())
