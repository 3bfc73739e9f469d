"""Requests to the session's queues and dictionaries from inside a container.

They go over the `lifecycle_magic.guest.container_connection`, as calls of other classes do.
"""

from __future__ import annotations

from concurrent.futures import Future, InvalidStateError
from typing import Any

from lifecycle_magic.exception import Error
from lifecycle_magic.guest.container_connection import connection
from lifecycle_magic.guest.session_answers import Wait, value_of
from lifecycle_magic.guest.session_connection import Answer, CallTarget, SessionConnection
from lifecycle_magic.wire.frames import Kind
from lifecycle_magic.wire.nested import OBJECTS, REMOTE

__all__ = ["start", "start_on", "wait"]

_DONE = Answer(Kind.END)


def start(request: tuple[Any, ...]) -> Future[Any]:
    """Send a request to the container's session. Cancelling its future withdraws it."""
    return start_on(connection(), request)


def start_on(session: SessionConnection, request: tuple[Any, ...]) -> Future[Any]:
    """Send a request over a connection. Cancelling its future withdraws it."""
    kind = request[0]
    where = f"a {kind} of the session"
    future: Future[Any] = Future()

    def receive(answer: Answer) -> None:
        try:
            if answer.lost:
                future.set_exception(Error(f"the session that keeps the {kind} has ended"))
                return
            try:
                value = value_of(answer, where)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(value)
        except InvalidStateError:
            pass  # cancelled meanwhile

    number = session.ask(CallTarget(OBJECTS, b"", "", where), REMOTE, request, {}, receive)

    def on_done(done: Future[Any]) -> None:
        if done.cancelled():
            session.send(Kind.ABANDON, number)

    future.add_done_callback(on_done)
    return future


def wait(future: Future[Any]) -> Any:
    """Return the answer. An interrupt of the running call withdraws the request."""
    if not future.done():
        waiting = Wait()
        future.add_done_callback(lambda _: waiting.receive(_DONE))
        try:
            waiting.wait()
        except BaseException:
            future.cancel()
            raise
    return future.result()
