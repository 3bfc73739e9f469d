"""Requests to the session's queues and dictionaries from the kernel itself."""

from __future__ import annotations

from concurrent.futures import Future

from lifecycle_magic.callers.object_calls import Answer, Request
from lifecycle_magic.session import session
from lifecycle_magic.threads.sigint import deferred

__all__ = ["start", "wait"]


def start(request: Request) -> Future[Answer]:
    """Carry out a request of this process. Cancelling its future withdraws it."""
    store = session.current().objects
    with deferred():  # an interrupt must not leave a request half done
        return store.submit(request)


def wait(future: Future[Answer]) -> Answer:
    """Return the answer. An interrupt withdraws the request."""
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
