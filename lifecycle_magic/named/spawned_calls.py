"""Spawned calls found by their ids, in any process of the user."""

from __future__ import annotations

import contextlib
import re
from concurrent.futures import Future, InvalidStateError
from typing import Any

from lifecycle_magic.callers.function_call import FunctionCall
from lifecycle_magic.decorators.current_call import current_function_call_id
from lifecycle_magic.exception import InvalidError, NotFoundError
from lifecycle_magic.guest.foreign_calls import ForeignCall
from lifecycle_magic.guest.session_answers import settle
from lifecycle_magic.guest.session_connection import Answer, CallTarget, SessionLeft
from lifecycle_magic.named.reach import kept_here, reach_session
from lifecycle_magic.wire.frames import Kind
from lifecycle_magic.wire.nested import COLLECT

__all__ = ["find"]

_ID = re.compile(r"fc-([0-9a-f]{1,32})-[0-9a-f-]{1,64}", re.ASCII)


def find(id: str) -> FunctionCall[Any]:
    """Return the spawned call with this id: see `FunctionCall.from_id`."""
    given: object = id
    matched = _ID.fullmatch(given) if isinstance(given, str) else None
    if matched is None:
        kind = NotFoundError if str(given).startswith("fc-") else InvalidError
        raise kind(
            f"FunctionCall.from_id({id!r}): this is no id of a call. "
            "Fix: pass the object_id of a call that .spawn(...) returned"
        )
    session = matched[1]
    kept = kept_here(session, id)
    if kept is not None:
        return _collected(ForeignCall(*kept), id)
    future: Future[Any] = Future()
    heard: Future[None] = Future()

    def receive(answer: Answer) -> None:
        if answer.kind == Kind.ITEM:  # the call runs on
            _finish(heard)
            return
        settle(future, answer, id)

    used = reach_session(session)
    try:
        if used is None:
            raise SessionLeft
        number = used.ask(CallTarget(session, b"", id, id), COLLECT, (), {}, receive)
    except SessionLeft:
        raise NotFoundError(f"{id}: session {session}, which ran the call, has ended") from None

    def on_done(done: Future[Any]) -> None:
        if done.cancelled():
            used.send(Kind.ABANDON, number)

    future.add_done_callback(on_done)
    return _collected(_CallElsewhere(future, id, heard), id)


class _CallElsewhere(ForeignCall):
    """A call that another process keeps. Whether it has ended, that process says first.

    ``heard`` is done when it has said that the call runs on. Time limits begin then, so that
    ``get(timeout=0)`` returns the value of a call that has ended.
    """

    def __init__(self, future: Future[Any], where: str, heard: Future[None]) -> None:
        super().__init__(future, where, _check_not_own)
        self._heard = heard
        future.add_done_callback(lambda _: _finish(heard))

    def done(self) -> bool:
        """Return whether the call has ended, as its process says."""
        self._hear()
        return super().done()

    def _cancel(self, terminate_containers: bool = False) -> None:
        """Interrupt the method. Raises `NotFoundError` if its session does not keep the call."""
        try:
            ForeignCall(self._heard, self._where)._outcome()
        finally:
            super()._cancel(terminate_containers)
        self._check_found()

    async def _cancel_aio(self, terminate_containers: bool = False) -> None:
        try:
            await ForeignCall(self._heard, self._where)
        finally:
            super()._cancel(terminate_containers)
        self._check_found()

    def _check_found(self) -> None:
        """Raise the error of a call that its session does not keep."""
        if not self._future.cancelled() and isinstance(self._future.exception(), NotFoundError):
            self._outcome()

    def _hear(self) -> None:
        try:
            ForeignCall(self._heard, self._where)._outcome()
        except KeyboardInterrupt:
            self._cancel()
            raise

    def _outcome(self, timeout: float | None = None) -> Any:
        if timeout is not None:
            self._hear()
        return super()._outcome(timeout)

    async def _get_aio(self, timeout: float | None = None, *, index: int = 0) -> Any:
        if timeout is not None:
            await ForeignCall(self._heard, self._where)._get_aio()
        return await super()._get_aio(timeout, index=index)


def _check_not_own(where: str, *, awaits: bool = False) -> None:
    """Raise `InvalidError` for the wait of a call for itself."""
    if where == current_function_call_id():
        raise InvalidError(
            f"{where} would wait for itself forever, as it is the call that runs here. "
            "Fix: return the value, or call get(timeout=...)"
        )


def _finish(heard: Future[None]) -> None:
    with contextlib.suppress(InvalidStateError):
        heard.set_result(None)


def _collected(found: ForeignCall, id: str) -> FunctionCall[Any]:
    found.object_id = id
    found._wanted = True  # its own process reports what no code asks for
    return found
