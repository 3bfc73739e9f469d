"""The outcomes of spawned calls, which other processes and later code ask for by an id."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import OrderedDict
from concurrent.futures import Future, InvalidStateError
from typing import Any, NamedTuple

from lifecycle_magic.exception import NotFoundError

__all__ = ["KeptCall", "KeptCalls"]

MAX_CALLS = 256
"""Calls that have ended whose outcomes are kept. Running calls are always kept."""


class KeptCall(NamedTuple):
    """A call: its future, and the name of its method in words."""

    future: Future[Any]
    where: str


class KeptCalls:
    """The calls of one session. Safe from any thread."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._calls: OrderedDict[str, KeptCall] = OrderedDict()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def add(self, future: Future[Any], where: str, id: str = "") -> str:
        """Keep a call, and return its id."""
        id = id or f"fc-{self._session}-{next(self._numbers)}"
        with self._lock:
            self._calls[id] = KeptCall(future, where)
            if len(self._calls) > MAX_CALLS:
                ended = [one for one, call in self._calls.items() if call.future.done()]
                for one in ended[:-MAX_CALLS]:
                    del self._calls[one]
        return id

    def open(self, id: str, where: str) -> None:
        """Keep a call that has not begun: `follow` or `fail` says what becomes of it."""
        self.add(Future(), where, id)

    def follow(self, id: str, future: Future[Any]) -> None:
        """Give the call ``id`` the outcome of ``future``. Cancelling the call cancels both."""
        kept = self._calls.get(id)
        if kept is None:
            return
        outcome = kept.future

        def on_done(done: Future[Any]) -> None:
            if done.cancelled():
                outcome.cancel()
            elif (error := done.exception()) is not None:
                _settle(outcome, error=error)
            else:
                _settle(outcome, done.result())

        future.add_done_callback(on_done)
        outcome.add_done_callback(lambda done: future.cancel() if done.cancelled() else None)

    def fail(self, id: str, error: BaseException) -> None:
        """End the call ``id`` with an error, if it has not ended."""
        kept = self._calls.get(id)
        if kept is not None:
            _settle(kept.future, error=error)

    def find(self, id: str) -> KeptCall:
        """Return the call with this id. Raises `NotFoundError` if its outcome was dropped."""
        found = self._calls.get(id)
        if found is None:
            raise NotFoundError(
                f"session {self._session} has no call {id}: it keeps the outcomes of the last "
                f"{MAX_CALLS} spawned calls"
            )
        return found


def _settle(outcome: Future[Any], value: Any = None, error: BaseException | None = None) -> None:
    with contextlib.suppress(InvalidStateError):  # it was cancelled
        outcome.set_result(value) if error is None else outcome.set_exception(error)
