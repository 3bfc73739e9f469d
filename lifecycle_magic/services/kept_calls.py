"""The outcomes of spawned calls, which other processes and later code ask for by an id."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import OrderedDict
from concurrent.futures import Future, InvalidStateError
from typing import Any, NamedTuple

from lifecycle_magic.callers import started_calls
from lifecycle_magic.calls.forwarded import ForwardedAnswer
from lifecycle_magic.decorators.current_call import call_id
from lifecycle_magic.exception import NotFoundError
from lifecycle_magic.wire.pickling import copy_buffers

__all__ = ["KeptCall", "KeptCalls"]

MAX_CALLS = 256
"""Calls that have ended whose outcomes are kept. Running calls are always kept."""

MAX_BYTES = 64 << 20
"""Bytes of all kept outcomes together; the oldest go first. A larger outcome is not kept at all."""

MAX_DROPPED = 10_000
"""Ids that are known to be dropped. Only such an id is refused without a wait."""

ARRIVAL_SECONDS = 5.0
"""How long an unknown id of a call from a container may be on its way. The container hands the id
on when it has sent the call, and the id can arrive first, over another connection.
"""


class KeptCall(NamedTuple):
    """A call: its future, and the name of its method in words."""

    future: Future[Any]
    where: str


class KeptCalls:
    """The calls of one session. Safe from any thread."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._calls: OrderedDict[str, KeptCall] = OrderedDict()
        self._others: dict[str, str] = {}  # by the id that the method of a call knows: see `also`
        self._sizes: dict[str, int] = {}  # of outcomes, in the order in which they came
        self._numbers = itertools.count(1)
        self._dropped: OrderedDict[str, None] = OrderedDict()  # the ids, oldest first
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)

    def add(self, future: Future[Any], where: str, id: str = "", number: int = 0) -> str:
        """Keep a call, and return its id.

        ``number`` is that of its input, by which the running method knows the call. A call of a
        batch has none, so its id is of another kind.
        """
        if not id:
            id = (
                call_id(self._session, number)
                if number
                else f"fc-{self._session}-b{next(self._numbers)}"
            )
        with self._lock:
            self._calls[id] = KeptCall(future, where)
            self._arrived.notify_all()
            if len(self._calls) > MAX_CALLS:
                ended = [one for one, call in self._calls.items() if call.future.done()]
                for one in ended[:-MAX_CALLS]:
                    self._sizes.pop(one, None)
                    self._drop(one)
        return id

    def also(self, id: str, number: int) -> None:
        """Keep the call ``id`` of a container under the id that its method knows, too."""
        with self._lock:
            if id in self._calls:
                self._others[call_id(self._session, number)] = id

    def open(self, id: str, where: str) -> None:
        """Keep a call that has not begun: `follow` or `fail` says what becomes of it."""
        self.add(Future(), where, id)

    def follow(self, id: str, future: Future[Any]) -> None:
        """Give the call ``id`` the outcome of ``future``. Cancelling the call cancels both.

        The outcome is copied: the original may be in memory that a container shares.
        """
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
                self._settle_value(id, outcome, done.result())

        future.add_done_callback(on_done)
        outcome.add_done_callback(lambda done: future.cancel() if done.cancelled() else None)

    def _settle_value(self, id: str, outcome: Future[Any], value: Any) -> None:
        if not isinstance(value, ForwardedAnswer):  # of a batch, whose values are of this process
            _settle(outcome, value)
            return
        size = len(value.data) + sum(memoryview(one).nbytes for one in value.buffers)
        if size > MAX_BYTES:
            error = NotFoundError(
                f"session {self._session} does not keep the value of {id}, which has {size} bytes, "
                f"more than {MAX_BYTES}. Fix: call get() of the call that spawn returned"
            )
            _settle(outcome, error=error)
            return
        _settle(outcome, ForwardedAnswer(bytes(value.data), copy_buffers(value.buffers)))
        with self._lock:
            self._sizes[id] = size
            while sum(self._sizes.values()) > MAX_BYTES:
                oldest = next(iter(self._sizes))
                del self._sizes[oldest]
                self._drop(oldest)

    def _drop(self, id: str) -> None:
        """Keep the id of a call alone. The caller holds the lock."""
        self._calls.pop(id, None)
        for other in [one for one, known in self._others.items() if known == id]:
            del self._others[other]
        self._dropped[id] = None
        if len(self._dropped) > MAX_DROPPED:
            self._dropped.popitem(last=False)

    def fail(self, id: str, error: BaseException) -> None:
        """End the call ``id`` with an error, if it has not ended."""
        kept = self._calls.get(id)
        if kept is not None:
            _settle(kept.future, error=error)

    def has_running(self) -> bool:
        """Return whether a call has not ended yet."""
        return any(not one.future.done() for one in list(self._calls.values()))

    def find(self, id: str) -> KeptCall:
        """Return the call with this id, once it has arrived.

        A call that this process has started is found while it runs, and kept from then on. Raises
        `NotFoundError` if its outcome was dropped, or no such call arrives.
        """
        with self._lock:
            id = self._others.get(id, id)
            if id not in self._calls and id not in self._dropped and _is_from_container(id):
                self._arrived.wait_for(lambda: id in self._calls, ARRIVAL_SECONDS)
            found = self._calls.get(id)
            is_dropped = id in self._dropped
        if found is not None:
            return found
        number = id.rpartition("-")[2]
        started = started_calls.find(int(number)) if number.isdecimal() and not is_dropped else None
        if started is not None and id == call_id(self._session, int(number)):
            self.add(*started, id)
            return KeptCall(*started)
        raise NotFoundError(
            f"session {self._session} has no call {id}: it keeps the outcomes of the last "
            f"{MAX_CALLS} spawned calls, and {MAX_BYTES >> 20} MB of them. Only its caller gets "
            "what a call by .remote() or of a map returns. "
            "Fix: start the call with .spawn(...), and pass its object_id on"
        )


def _is_from_container(id: str) -> bool:
    """Return whether a container made the id, which has the id of its connection as third part."""
    return id.count("-") == 3


def _settle(outcome: Future[Any], value: Any = None, error: BaseException | None = None) -> None:
    with contextlib.suppress(InvalidStateError):  # it was cancelled
        outcome.set_result(value) if error is None else outcome.set_exception(error)
