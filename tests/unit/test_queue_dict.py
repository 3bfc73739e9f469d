"""`Queue` and `Dict` in the kernel: what they hold, who gets it, and who waits."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import queue
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import lifecycle_magic as lm
from lifecycle_magic.exception import Error, InvalidError, NotFoundError, SerializationError
from lifecycle_magic.services import object_store, stored_dict
from lifecycle_magic.session import session

PATIENCE = 60.0


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """End the session that a test opens."""
    yield
    session.close("the test is over")


@pytest.fixture
def jobs() -> Iterator[Any]:
    with lm.Queue.ephemeral() as made:
        yield made


@pytest.fixture
def shared() -> Iterator[Any]:
    with lm.Dict.ephemeral() as made:
        yield made


@contextlib.contextmanager
def in_thread(function: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
    """Run a function that waits in a queue; yields its future when it does."""
    store = session.current().objects
    before = store.waiting()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(function, *args, **kwargs)
        while store.waiting() == before and not future.done():
            threading.Event().wait(0.001)
        yield future


# --- queues --------------------------------------------------------------------------------------


def test_items_come_out_in_the_order_in_which_they_were_put(jobs: Any) -> None:
    jobs.put("a")
    jobs.put_many(["b", "c", "d"])
    assert jobs.len() == 4
    assert list(jobs.iterate()) == ["a", "b", "c", "d"]
    assert [jobs.get(), *jobs.get_many(2), *jobs.get_many(9)] == ["a", "b", "c", "d"]
    assert (jobs.get(block=False), jobs.get_many(3, block=False), jobs.len()) == (None, [], 0)
    with pytest.raises(queue.Empty):
        jobs.get(timeout=0.01)
    with pytest.raises(queue.Empty):
        jobs.get(timeout=0)
    with pytest.warns(UserWarning, match="ignores its timeout"):
        jobs.get(block=False, timeout=1)


def test_partitions_are_queues_of_their_own(jobs: Any) -> None:
    jobs.put(1)
    jobs.put_many([2, 3], partition="other")
    assert (jobs.len(), jobs.len(partition="other"), jobs.len(total=True)) == (1, 2, 3)
    assert jobs.get(partition="other") == 2
    jobs.clear()
    assert (jobs.len(), jobs.len(total=True)) == (0, 1)
    jobs.clear(all=True)
    assert jobs.len(total=True) == 0
    jobs.put(1, partition_ttl=0)
    assert jobs.len() == 0


def test_a_get_waits_for_a_put_and_those_that_came_first_are_first(jobs: Any) -> None:
    with in_thread(jobs.get, timeout=PATIENCE) as first, in_thread(jobs.get) as second:
        jobs.put_many(["a", "b", "c"])
        assert (first.result(PATIENCE), second.result(PATIENCE)) == ("a", "b")
    assert jobs.get(block=False) == "c"


def test_a_put_waits_for_room(jobs: Any) -> None:
    jobs.put_many([0] * object_store.MAX_ITEMS)
    with pytest.raises(queue.Full):
        jobs.put(1, block=False)
    with pytest.raises(queue.Full):
        jobs.put(1, timeout=0.01)
    with pytest.raises(InvalidError, match="does not fit"):
        jobs.put_many([0] * (object_store.MAX_ITEMS + 1))
    with in_thread(jobs.put, 1) as put:
        assert jobs.get() == 0
        assert put.result(PATIENCE) is None
    jobs.clear()
    with in_thread(jobs.get) as got:
        jobs.put(2)
        assert got.result(PATIENCE) == 2


def test_the_bytes_of_a_queue_are_bounded(jobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "MAX_BYTES", 10_000)
    jobs.put(b"x" * 6000)
    with pytest.raises(queue.Full):
        jobs.put(b"x" * 6000, block=False, partition="other")
    with pytest.raises(InvalidError, match="does not fit"):
        jobs.put(b"x" * 20_000)
    with in_thread(jobs.put, b"y" * 6000, partition="other") as put:
        jobs.get()
        assert put.result(PATIENCE) is None
    assert jobs.get(partition="other") == b"y" * 6000
    for _ in range(3):
        jobs.put(b"x" * 9000)
        jobs.clear()


def test_an_item_goes_to_one_caller_at_most(jobs: Any) -> None:
    def take() -> list[int]:
        found = []
        while (one := jobs.get(timeout=PATIENCE)) is not None:
            found.append(one)
        return found

    with ThreadPoolExecutor(4) as pool:
        takers = [pool.submit(take) for _ in range(4)]
        for number in range(500):
            jobs.put(number)
        jobs.put_many([None] * 4)
        taken = [one for taker in takers for one in taker.result(PATIENCE)]
    assert sorted(taken) == list(range(500))


def test_a_wait_that_was_cancelled_takes_nothing(jobs: Any) -> None:
    async def give_up() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(jobs.get.aio(), 0.01)
        task = asyncio.ensure_future(jobs.get.aio())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    assert session.current().objects.waiting() == 0
    jobs.put("kept")
    assert jobs.get(block=False) == "kept"


def test_coroutines_wait_without_blocking_their_loop(jobs: Any) -> None:
    async def hand_over() -> Any:
        got = asyncio.ensure_future(jobs.get.aio(timeout=PATIENCE))
        await jobs.put.aio(1)
        await asyncio.wait([got])
        await jobs.put_many.aio([2, 3])
        rest = [one async for one in jobs.iterate.aio()]
        return await got, rest, await jobs.len.aio(), await jobs.get_many.aio(5)

    assert asyncio.run(hand_over()) == (1, [2, 3], 2, [2, 3])


def test_iterate_waits_for_new_items(jobs: Any) -> None:
    jobs.put(1)
    items = jobs.iterate(item_poll_timeout=PATIENCE)
    assert next(items) == 1
    with in_thread(next, items) as more:
        jobs.put(2)
        assert more.result(PATIENCE) == 2
    assert jobs.len() == 2


# --- dictionaries --------------------------------------------------------------------------------


def test_a_dictionary_has_what_a_dict_has(shared: Any) -> None:
    shared["a"] = 1
    assert shared.put("b", 2) is True
    assert shared.put("b", 3, skip_if_exists=True) is False
    shared.update({"c": 3}, d=4)
    assert dict(shared.items()) == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert (list(shared.keys()), list(shared.values())) == (["a", "b", "c", "d"], [1, 2, 3, 4])
    assert (list(shared), len(shared), shared.len(), bool(shared)) == (list("abcd"), 4, 4, True)
    assert ("a" in shared, shared.contains("z"), shared.get("z"), shared.get("z", 9)) == (
        True, False, None, 9,
    )  # fmt: skip
    assert (shared.pop("a"), shared.pop("a", 7)) == (1, 7)
    del shared["b"]
    for missing in (lambda: shared["a"], lambda: shared.pop("b"), lambda: shared.__delitem__("b")):
        with pytest.raises(KeyError):
            missing()
    shared.clear()
    assert len(shared) == 0


@pytest.mark.parametrize(
    ("key", "same", "other"),
    [
        ("k", "k", "K"), (1, 1, True), (b"k", b"k", "k"), ((1, "a"), (1, "a"), (1, "b")),
        (None, None, 0), (frozenset({1}), frozenset({1}), frozenset()), ("\udcff", "\udcff", "?"),
    ],
)  # fmt: skip
def test_keys_are_equal_if_their_types_and_values_are(
    shared: Any, key: Any, same: Any, other: Any
) -> None:
    shared[key] = "found"
    assert shared[same] == "found"
    assert other not in shared
    assert list(shared) == [key]


def test_a_value_that_is_read_is_a_copy(shared: Any) -> None:
    array = np.zeros(1 << 16)
    shared["list"], shared["array"] = [1], array
    array += 1
    shared["list"].append(2)
    read = shared["array"]
    assert (shared["list"], read.sum()) == ([1], 0)
    read += 1  # it can be written to


def test_the_bytes_of_a_dictionary_are_bounded(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_dict, "MAX_BYTES", 10_000)
    for _ in range(3):
        shared["a"] = b"x" * 8000  # in place of the last one
    with pytest.raises(InvalidError, match="does not fit"):
        shared.update({"a": b"", "b": b"x" * 11_000})
    assert shared["a"] == b"x" * 8000
    shared.clear()
    shared["b"] = b"x" * 8000


def test_coroutines_use_a_dictionary(shared: Any) -> None:
    async def use() -> Any:
        await shared.put.aio("a", 1)
        await shared.update.aio({"b": 2})
        keys = [key async for key in shared.keys.aio()]
        return keys, await shared.get.aio("a"), await shared.pop.aio("b"), await shared.len.aio()

    assert asyncio.run(use()) == (["a", "b"], 1, 2, 1)


# --- both ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [lm.Queue, lm.Dict])
def test_a_name_finds_the_same_object_until_it_is_deleted(cls: Any) -> None:
    name = f"n-{secrets.token_hex(4)}"
    with pytest.raises(NotFoundError, match=f"there is no '{name}'.*create_if_missing=True"):
        cls.from_name(name).len()
    made = cls.from_name(name, create_if_missing=True)
    made.clear()
    found = pickle.loads(pickle.dumps(cls.from_name(name)))
    assert (found, hash(found), repr(found)) == (
        made, hash(made), f"{cls.__name__}.from_name({name!r})",
    )  # fmt: skip
    assert found.len() == 0
    cls.delete(name)
    with pytest.raises(NotFoundError):
        found.len()
    with pytest.raises(NotFoundError):
        cls.delete(name)
    cls.delete(name, allow_missing=True)


@pytest.mark.parametrize("cls", [lm.Queue, lm.Dict])
def test_one_without_a_name_is_gone_after_its_block(cls: Any) -> None:
    with cls.ephemeral() as made:
        other = pickle.loads(pickle.dumps(made))
        assert other.len() == 0
        assert other != cls.ephemeral()
    with pytest.raises(NotFoundError, match="it was deleted"):
        other.len()


def test_a_deleted_queue_ends_the_waits_for_it() -> None:
    name = f"n-{secrets.token_hex(4)}"
    made = lm.Queue.from_name(name, create_if_missing=True)
    with in_thread(made.get) as got:
        lm.Queue.delete(name)
        with pytest.raises(NotFoundError):
            got.result(PATIENCE)


def test_the_end_of_the_session_ends_the_waits(jobs: Any) -> None:
    with in_thread(jobs.get) as got:
        session.close("the test is over")
        with pytest.raises(Error, match="the session that keeps the queue"):
            got.result(PATIENCE)


def test_what_can_not_work_is_refused_by_name(jobs: Any, shared: Any) -> None:
    lock = threading.Lock()
    with pytest.raises(SerializationError, match=r"Queue.put: an item can't be pickled"):
        jobs.put(lock)
    with pytest.raises(SerializationError, match=r"Dict: the value of 'a' can't be pickled"):
        shared["a"] = lock
    for timeout in (-1, "1", True, float("nan")):
        with pytest.raises(InvalidError, match="must be 0 or more seconds"):
            jobs.get(timeout=timeout)
    for partition in ("", "x" * 65, 1):
        with pytest.raises(InvalidError, match="no name of a partition"):
            jobs.put(1, partition=partition)
    for count in (0, True, "1"):
        with pytest.raises(InvalidError, match="n_values must be 1 or more"):
            jobs.get_many(count)
    for name in ("", "a\nb", "x" * 65, 1):
        with pytest.raises(InvalidError, match="is not a valid name"):
            lm.Queue.from_name(name)  # type: ignore[arg-type]
