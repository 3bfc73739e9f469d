"""The queues and dictionaries of one session: `Queue` and `Dict` of the public API.

They belong to the kernel's process, so they outlive every container. Keys, items and values are
pickles that are never read here: their types need not exist in the kernel. What a request can't do
at once waits as a future, whose cancellation withdraws the request: an item goes to one caller at
most, and to none that has gone on.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from lifecycle_magic.callers.object_calls import (
    EMPTY,
    EPHEMERAL,
    FULL,
    MISSING,
    NAMES,
    OK,
    TOO_LARGE,
    Answer,
    Packed,
    Request,
)
from lifecycle_magic.exception import Error, WireError
from lifecycle_magic.services.stored_dict import MAX_BYTES, StoredDict, size_of

__all__ = ["MAX_ITEMS", "ObjectStore"]

MAX_ITEMS = 5000
"""The most items of one partition of a queue, as in Modal."""

find: Callable[[], ObjectStore]
"""Returns the store of this process's session; the session sets it."""


class CancellableTimer(Protocol):
    """The timer that `CallLater` returns."""

    def cancel(self) -> None:
        """Do not call the callback any more."""


CallLater = Callable[[float, Callable[[], None]], CancellableTimer]


class ObjectStore:
    """Queues and dictionaries by name. ``call_later`` runs a callback after so many seconds.

    All methods may be called from any thread.
    """

    def __init__(self, call_later: CallLater) -> None:
        self._call_later = call_later
        self._lock = threading.RLock()  # a future's callbacks run while it is held
        self._objects: dict[tuple[str, str], _Queue | StoredDict] = {}
        self._deleted: deque[tuple[str, str]] = deque(maxlen=1000)
        self._is_closed = False

    def submit(self, request: Request) -> Future[Answer]:
        """Carry out a request and return its answer as a future.

        Raises `WireError` for a request that no client sends.
        """
        future: Future[Answer] = Future()
        kind, name, create, method, arguments = _checked(request)
        with self._lock:
            if self._is_closed:
                future.set_exception(_ended())
                return future
            if method == NAMES:
                future.set_result((OK, self._names(kind)))
                return future
            found = self._objects.get((kind, name))
            if method == "delete":
                self._objects.pop((kind, name), None)
                self._deleted.append((kind, name))
                future.set_result((MISSING if found is None else OK, None))
                if isinstance(found, _Queue):
                    found.end((MISSING, None))
                return future
            if found is None and (not create or self._was_deleted(kind, name)):
                future.set_result((MISSING, None))
                return future
            if found is None:
                found = _Queue(self._lock, self._call_later) if kind == "queue" else StoredDict()
                self._objects[kind, name] = found
            operation = found.methods.get(method)
            if operation is None:
                raise WireError(f"a {kind} has no method {method}")
            try:
                operation(future, *arguments)
            except TypeError as error:
                raise WireError(f"a request that can't be read: {error}") from None
        return future

    def _names(self, kind: str) -> list[tuple[str, int]]:
        """Return the names of the queues or dictionaries that have one, and what each holds."""
        return sorted(
            (name, one.count())
            for (of, name), one in self._objects.items()
            if of == kind and not name.startswith(EPHEMERAL)
        )

    def _was_deleted(self, kind: str, name: str) -> bool:
        """Return whether this was an object without a name, which no use creates again."""
        return name.startswith(EPHEMERAL) and (kind, name) in self._deleted

    def waiting(self) -> int:
        """Return the number of requests that wait in queues."""
        with self._lock:
            queues = [one for one in self._objects.values() if isinstance(one, _Queue)]
            return sum(len(one.waits()) for one in queues)

    def close_in_fork(self) -> None:
        """Refuse requests in a forked child: only that child has its copy of the content."""
        self._lock = threading.RLock()
        self._is_closed = True

    def close(self) -> None:
        """End all requests that wait: they raise `Error`."""
        with self._lock:
            self._is_closed = True
            objects, self._objects = list(self._objects.values()), {}
            for one in objects:
                if isinstance(one, _Queue):
                    one.end(_ended())


def _ended() -> Error:
    return Error("the session that keeps the queue or dictionary has ended")


def _checked(request: object) -> Request:
    if (
        not isinstance(request, tuple)
        or [type(part) for part in request] != [str, str, bool, str, tuple]
        or request[0] not in ("queue", "dict")
    ):
        raise WireError("a request for a queue or dictionary that can't be read")
    return request


class _Wait:
    """A request that waits until it is ready or its time is over, and is then ``late``."""

    def __init__(
        self,
        future: Future[Answer],
        is_ready: Callable[[], bool],
        carry_out: Callable[[], Answer],
        late: Answer,
    ) -> None:
        self.future = future
        self.is_ready = is_ready
        self.carry_out = carry_out
        self.late = late
        self.timer: CancellableTimer | None = None


class _Partition:
    """The items of one partition, each with its number in the queue, and who waits for what."""

    def __init__(self) -> None:
        self.items: deque[tuple[int, Packed]] = deque()
        self.readers: list[_Wait] = []
        self.writers: list[_Wait] = []
        self.watchers: list[_Wait] = []  # they take nothing
        self.expires = float("inf")

    def waits(self) -> list[_Wait]:
        """Return the requests that wait."""
        return [*self.readers, *self.writers, *self.watchers]

    def is_unused(self) -> bool:
        """Return whether it is empty and no request waits for it."""
        return not (self.items or self.waits())


class _Queue:
    def __init__(self, lock: threading.RLock, call_later: CallLater) -> None:
        self._lock = lock
        self._call_later = call_later
        self._partitions: dict[str, _Partition] = {}
        self._numbers = itertools.count(1)
        self._bytes = 0
        self.methods: dict[str, Callable[..., None]] = {
            "put": self._put,
            "get": self._get,
            "after": self._after,
            "len": self._len,
            "clear": self._clear,
        }

    # --- requests --------------------------------------------------------------------------

    def _put(
        self,
        future: Future[Answer],
        name: str,
        items: list[Packed],
        block: bool,
        timeout: float | None,
        ttl: float,
    ) -> None:
        partition = self._partition(name)
        size = sum(map(size_of, items))
        if len(items) > MAX_ITEMS or size > MAX_BYTES:
            future.set_result((TOO_LARGE, None))
            return

        def is_ready() -> bool:
            return (
                len(partition.items) + len(items) <= MAX_ITEMS and self._bytes + size <= MAX_BYTES
            )

        def carry_out() -> Answer:
            partition.items.extend((next(self._numbers), item) for item in items)
            partition.expires = time.monotonic() + ttl
            self._bytes += size
            return OK, None

        wait = _Wait(future, is_ready, carry_out, (FULL, None))
        self._start(wait, partition.writers, block, timeout)
        self._settle()

    def _get(
        self, future: Future[Answer], name: str, count: int, block: bool, timeout: float | None
    ) -> None:
        partition = self._partition(name)

        def carry_out() -> Answer:
            found = [partition.items.popleft()[1] for _ in range(min(count, len(partition.items)))]
            self._bytes -= sum(map(size_of, found))
            return OK, found

        wait = _Wait(future, lambda: bool(partition.items), carry_out, (EMPTY if block else OK, []))
        self._start(wait, partition.readers, block, timeout)
        self._settle()

    def _after(self, future: Future[Answer], name: str, last: int, timeout: float) -> None:
        """Read items without removing them: those after the item number ``last``."""
        partition = self._partition(name)

        def found() -> list[tuple[int, Packed]]:
            return [one for one in partition.items if one[0] > last]

        wait = _Wait(future, lambda: bool(found()), lambda: (OK, found()), (OK, []))
        self._start(wait, partition.watchers, timeout > 0, timeout)

    def _len(self, future: Future[Answer], name: str, total: bool) -> None:
        found = self.count() if total else len(self._partition(name).items)
        future.set_result((OK, found))

    def count(self) -> int:
        """Return the number of items in all partitions."""
        return sum(len(self._partition(one).items) for one in list(self._partitions))

    def _clear(self, future: Future[Answer], name: str, everything: bool) -> None:
        for one in list(self._partitions) if everything else [name]:
            self._empty(self._partition(one))
        future.set_result((OK, None))
        self._settle()

    # --- waiting ---------------------------------------------------------------------------

    def _partition(self, name: str) -> _Partition:
        # Those without items that nobody waits for cost memory.
        for other, idle in list(self._partitions.items()):
            if idle.expires < time.monotonic():
                self._empty(idle)
            if other != name and idle.is_unused():
                del self._partitions[other]
        return self._partitions.setdefault(name, _Partition())

    def _empty(self, partition: _Partition) -> None:
        self._bytes -= sum(size_of(item) for _, item in partition.items)
        partition.items.clear()
        partition.expires = float("inf")

    def _start(self, wait: _Wait, line: list[_Wait], block: bool, timeout: float | None) -> None:
        """Carry out a request, or have it wait in ``line`` behind those that came before."""
        # Those that came before go first; a request that does not wait has no turn.
        if not (line and block) and wait.is_ready():
            wait.future.set_result(wait.carry_out())
        elif block and (timeout is None or timeout > 0):
            line.append(wait)
            wait.future.add_done_callback(lambda _: self._leave(wait, line))
            if timeout is not None:
                wait.timer = self._call_later(timeout, lambda: self._expire(wait, line))
        else:
            wait.future.set_result(wait.late)

    def _leave(self, wait: _Wait, line: list[_Wait]) -> None:
        """Forget a request that was answered or withdrawn."""
        with self._lock:
            if wait in line:
                line.remove(wait)
            if wait.timer is not None:
                wait.timer.cancel()

    def _expire(self, wait: _Wait, line: list[_Wait]) -> None:
        with self._lock:
            if wait in line and wait.future.set_running_or_notify_cancel():
                wait.future.set_result(wait.late)

    def _settle(self) -> None:
        """Carry out the waiting requests that are ready, in the order in which they came."""
        went_on = True
        while went_on:
            went_on = False
            for partition in list(self._partitions.values()):
                for wait in list(partition.watchers):
                    self._try(wait, partition.watchers)
                for line in (partition.readers, partition.writers):
                    while line and self._try(line[0], line):
                        went_on = True

    def _try(self, wait: _Wait, line: list[_Wait]) -> bool:
        """Carry out a request if it is ready; return False if it waits on."""
        if not wait.is_ready():
            return False
        # Claimed before anything is taken: a request that was withdrawn takes nothing.
        if wait.future.set_running_or_notify_cancel():
            wait.future.set_result(wait.carry_out())
        if wait in line:
            line.remove(wait)
        return True

    def waits(self) -> list[_Wait]:
        """Return the requests that wait in all partitions."""
        return [wait for one in self._partitions.values() for wait in one.waits()]

    def end(self, answer: Answer | Error) -> None:
        """Answer all requests that wait."""
        for wait in self.waits():
            if wait.future.set_running_or_notify_cancel():
                if isinstance(answer, Error):
                    wait.future.set_exception(answer)
                else:
                    wait.future.set_result(answer)
