"""Spawned calls found by their ids, in any process of the user."""

from __future__ import annotations

import re
from concurrent.futures import Future, InvalidStateError
from typing import Any

from lifecycle_magic.callers.function_call import FunctionCall
from lifecycle_magic.exception import InvalidError, NotFoundError
from lifecycle_magic.guest.answers import value_of
from lifecycle_magic.guest.foreign_calls import ForeignCall
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
        return _collected(kept[0], kept[1], id)
    future: Future[Any] = Future()

    def receive(answer: Answer) -> None:
        try:
            try:
                future.set_result(value_of(answer, id))
            except InvalidStateError:
                raise
            except BaseException as error:
                future.set_exception(error)
        except InvalidStateError:
            pass  # cancelled meanwhile

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
    return _collected(future, id, id)


def _collected(future: Future[Any], where: str, id: str) -> FunctionCall[Any]:
    found = ForeignCall(future, where)
    found.object_id = id
    return found
