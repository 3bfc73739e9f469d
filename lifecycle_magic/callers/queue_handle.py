"""`Queue`: items that the notebook and containers hand to each other."""

from __future__ import annotations

import math
import queue
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TypeVar

from lifecycle_magic.callers.methods_with_aio import WithAio, items_with_aio
from lifecycle_magic.callers.object_calls import (
    EMPTY,
    FULL,
    Answer,
    NamedObjects,
    ObjectRequest,
    SharedObject,
    asks,
    pack,
    unpack,
)
from lifecycle_magic.callers.with_aio import CallWithAio
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.modal_api.old_members import OldMember, looks_up
from lifecycle_magic.modal_api.table import check_keywords, refuse_members

__all__ = ["Queue"]

T = TypeVar("T")

_DAY = 24 * 3600


class Queue(SharedObject):
    """A first-in, first-out queue that the notebook and its containers share.

    The session keeps it until the kernel ends; containers may come and go. Each item goes to one
    caller at most. ``partition`` names one of many independent queues in it. A partition holds 5000
    items at most, a queue 1 GiB. Every method has a form for coroutines, such as
    ``await queue.get.aio()``.

    >>> with Queue.ephemeral() as jobs:
    ...     jobs.put("first")
    ...     jobs.put_many([2, 3])
    ...     jobs.get(), jobs.len()
    ('first', 2)
    """

    _kind = "queue"
    _length = ("len", "", True)

    @classmethod
    def from_name(cls, name: str, *, create_if_missing: bool = False, **of_modal: object) -> Queue:
        """Return the queue of this name in the session, which is looked up when it is first used.

        A use raises `NotFoundError` if there is none, unless ``create_if_missing``. Raises
        `InvalidError` for an invalid name.

        >>> Queue.from_name("jobs", create_if_missing=True)
        Queue.from_name('jobs')
        """
        check_keywords("Queue.from_name", of_modal, ("create_if_missing",))
        made: Queue = cls._named(name, create_if_missing)
        return made

    ephemeral: ClassVar[WithAio[..., Queue, Queue]]

    lookup = OldMember(looks_up)
    persisted = OldMember(looks_up)
    new = OldMember(lambda cls, **of_modal: cls.ephemeral(**of_modal))

    @asks
    def put(
        self,
        v: Any,
        block: bool = True,
        timeout: float | None = None,
        *,
        partition: str | None = None,
        partition_ttl: float = _DAY,
    ) -> ObjectRequest[None]:
        """Add an item. A full partition is waited for.

        Raises `queue.Full` after ``timeout`` seconds, and at once if ``block`` is false. Raises
        `SerializationError` for a value that can't be pickled. A partition is deleted
        ``partition_ttl`` seconds after its last item was added.
        """
        return self._put([v], block, timeout, partition, partition_ttl)

    @asks
    def put_many(
        self,
        vs: Sequence[Any],
        block: bool = True,
        timeout: float | None = None,
        *,
        partition: str | None = None,
        partition_ttl: float = _DAY,
    ) -> ObjectRequest[None]:
        """Add several items, all at once and in their order: see `put`."""
        return self._put(list(vs), block, timeout, partition, partition_ttl)

    def _put(
        self,
        values: list[Any],
        block: bool,
        timeout: float | None,
        partition: str | None,
        ttl: float,
    ) -> ObjectRequest[None]:
        items = [pack(value, "Queue.put: an item") for value in values]
        arguments = (_partition(partition), items, bool(block), _seconds(timeout), float(ttl))

        def finish(answer: Answer) -> None:
            if answer[0] == FULL:
                raise queue.Full("the partition of the queue is full")

        return ObjectRequest("put", arguments, finish)

    @asks
    def get(
        self, block: bool = True, timeout: float | None = None, *, partition: str | None = None
    ) -> ObjectRequest[Any]:
        """Remove the first item and return it. An empty queue is waited for.

        Raises `queue.Empty` after ``timeout`` seconds. If ``block`` is false, an empty queue
        returns None at once.
        """
        return self._get(1, block, timeout, partition, lambda found: found[0] if found else None)

    @asks
    def get_many(
        self,
        n_values: int,
        block: bool = True,
        timeout: float | None = None,
        *,
        partition: str | None = None,
    ) -> ObjectRequest[list[Any]]:
        """Remove up to ``n_values`` items and return them; at least one is waited for: see `get`.

        If ``block`` is false, an empty queue returns an empty list.
        """
        count: object = n_values
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InvalidError(f"Queue.get_many: n_values must be 1 or more, not {count!r}")
        return self._get(n_values, block, timeout, partition, list)

    def _get(
        self, count: int, block: bool, timeout: float | None, partition: str | None, shape: Any
    ) -> ObjectRequest[Any]:
        if not block and timeout is not None:
            warnings.warn("Queue.get(block=False) ignores its timeout", stacklevel=4)
        seconds = _seconds(timeout)

        def finish(answer: Answer) -> Any:
            if answer[0] == EMPTY:
                raise queue.Empty(f"no item came within {seconds:g} s")
            return shape([unpack(one) for one in answer[1]])

        return ObjectRequest("get", (_partition(partition), count, bool(block), seconds), finish)

    @asks
    def len(self, *, partition: str | None = None, total: bool = False) -> ObjectRequest[int]:
        """Return the number of items of a partition, or of all with ``total``."""
        return ObjectRequest("len", (_partition(partition), bool(total)), _value)

    @asks
    def clear(self, *, partition: str | None = None, all: bool = False) -> ObjectRequest[None]:
        """Remove all items of a partition, or of all partitions with ``all``."""
        return ObjectRequest("clear", (_partition(partition), bool(all)), _nothing)

    @items_with_aio
    def iterate(
        self, *, partition: str | None = None, item_poll_timeout: float = 0.0
    ) -> Iterator[Any]:
        """Yield the items without removing them.

        The end is reached when no new item comes for ``item_poll_timeout`` seconds.
        """
        name, wait = _partition(partition), _seconds(item_poll_timeout) or 0.0

        def items() -> Iterator[Any]:
            last = 0
            while found := self._ask("after", name, last, wait)[1]:
                for number, packed in found:
                    last = number
                    yield unpack(packed)

        return items()

    objects: ClassVar[NamedObjects[Queue]]
    delete: ClassVar[Any]  # `Queue.objects.delete`


def _ephemeral(
    client: object = None, environment_name: str | None = None, **of_modal: object
) -> Queue:
    """Return a new queue without a name; as a ``with`` block it is deleted at the end.

    >>> with Queue.ephemeral() as jobs:
    ...     jobs.len()
    0
    """
    of_modal = {"client": client, "environment_name": environment_name, **of_modal}
    check_keywords("Queue.ephemeral", of_modal)
    made: Queue = Queue._of_no_name()
    return made


Queue.ephemeral = CallWithAio(_ephemeral, _ephemeral)
Queue.objects = NamedObjects(Queue)
Queue.delete = Queue.objects.delete
refuse_members(Queue)


def _partition(name: object) -> str:
    if name is None:
        return ""
    if not isinstance(name, str) or not 0 < len(name.encode()) <= 64:
        raise InvalidError(
            f"Queue: partition={name!r} is no name of a partition. Fix: use a string of up to 64 "
            "bytes, or None"
        )
    return name


def _seconds(timeout: object) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0:
        raise InvalidError(f"Queue: timeout={timeout!r} must be 0 or more seconds, or None")
    return None if math.isinf(timeout) else float(timeout)


def _value(answer: Answer) -> Any:
    return answer[1]


def _nothing(answer: Answer) -> None:
    return None
