"""``.remote()`` of ``async def`` methods, with the real guest: see `fakes.forked`."""

from __future__ import annotations

import asyncio
import operator
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakes.forked import Forked, ForkEngine

import lifecycle_magic as lm

pytestmark = pytest.mark.every_python


@pytest.fixture(scope="module")
def engine() -> Iterator[ForkEngine]:
    made = ForkEngine()
    yield made
    made.close()


class Adds:
    @lm.method()
    def add(self, x: int) -> int:
        return x + 1

    @lm.method()
    async def add_async(self, x: int) -> int:
        return x + 1

    @lm.method()
    async def fail(self) -> None:
        raise ValueError("on purpose")


@pytest.fixture(scope="module")
def work(engine: ForkEngine) -> Iterator[Forked]:
    with Forked(engine, Adds, max_containers=1) as made:
        yield made


def test_where_no_loop_runs_it_waits(work: Forked) -> None:
    assert work.add_async.remote(1) == 2
    with pytest.raises(ValueError, match="on purpose"):
        work.fail.remote()


def test_in_a_thread_next_to_a_loop_it_waits(work: Forked) -> None:
    async def main() -> Any:
        return await asyncio.to_thread(work.add_async.remote, 1)

    assert asyncio.run(main()) == 2
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(work.add_async.remote(1)))
    thread.start()
    thread.join()
    assert got == [2]


def test_where_a_loop_runs_it_is_awaited(work: Forked) -> None:
    async def main() -> list[Any]:
        call = work.add_async.remote(1)
        assert isinstance(call, lm.FunctionCall)
        return [
            await call,
            await asyncio.wait_for(work.add_async.remote(2), 60),
            *await asyncio.gather(work.add_async.remote(3), work.add.remote.aio(4)),
            await work.add_async.remote.aio(5),
            work.add_async.remote(6).get(),
            work.add.remote(7),
        ]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asyncio.run(main()) == [2, 3, 4, 5, 6, 7, 8]


def test_its_exception_comes_with_await_and_with_get(work: Forked) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="on purpose"):
            await work.fail.remote()
        with pytest.raises(ValueError, match="on purpose"):
            work.fail.remote().get()

    asyncio.run(main())


FIX = "write `await Adds.add_async.remote(...)` or `Adds.add_async.remote(...).get()`"

MISUSES: list[Callable[[Any], Any]] = [
    lambda call: call + 1,
    lambda call: 1 + call,
    lambda call: call - 1.0,
    lambda call: call[0],
    lambda call: call["key"],
    lambda call: call.shape,
    lambda call: call.split(),
    lambda call: list(call),
    lambda call: [*call],
    lambda call: len(call),
    lambda call: bool(call),
    lambda call: not call,
    lambda call: int(call),
    lambda call: float(call),
    lambda call: f"{call}",
    lambda call: f"{call:.2f}",
    lambda call: 2 in call,
    lambda call: call == 2,
    lambda call: call != 2,
    lambda call: call < 2,
    lambda call: call > 2,
    lambda call: -call,
    lambda call: call(),
    lambda call: next(call),
    lambda call: range(call),
    lambda call: sum(call),
    lambda call: max(call, 3),
    lambda call: round(call),
    lambda call: operator.setitem(call, 0, 1),
    lambda call: call.__enter__(),
    lambda call: pickle.dumps(call),
]


@pytest.mark.parametrize("misuse", range(len(MISUSES)))
def test_a_call_that_is_used_as_its_value_names_the_fix(work: Forked, misuse: int) -> None:
    async def main() -> None:
        call = work.add_async.remote(1)
        with pytest.raises((TypeError, AttributeError)) as refused:
            MISUSES[misuse](call)
        if misuse != MISUSES.index(MISUSES[-2]):  # a protocol's name says nothing
            assert FIX in str(refused.value)
        assert await call == 2

    asyncio.run(main())


def test_a_call_is_an_object_like_others(work: Forked) -> None:
    async def main() -> None:
        one, two = work.add_async.remote(1), work.add_async.remote(2)
        assert FIX in repr(one)
        assert FIX in str(one)
        assert one != two
        assert one == one
        assert {one: 1}[one] == 1
        assert one in [two, one]
        assert not hasattr(one, "_repr_html_")
        assert [await one, await two] == [2, 3]

    asyncio.run(main())


def test_a_call_that_is_an_argument_names_the_fix(work: Forked) -> None:
    async def main() -> None:
        inner = work.add_async.remote(1)
        with pytest.raises(TypeError, match="argument 1") as refused:
            work.add.remote(inner)
        assert FIX in str(refused.value)
        await inner

    asyncio.run(main())


def test_a_call_that_is_never_awaited_warns_and_names_it(work: Forked) -> None:
    async def main() -> None:
        with pytest.warns(
            RuntimeWarning, match=r"the call of Adds\.add_async was never awaited"
        ) as w:
            work.add_async.remote(1)
        assert FIX in str(w[0].message)
        assert w[0].filename == __file__
        assert await work.add_async.remote(2) == 3

    asyncio.run(main())


def test_a_call_that_was_cancelled_or_gathered_does_not_warn(work: Forked) -> None:
    async def main() -> None:
        work.add_async.remote(1).cancel()
        assert lm.gather(work.add_async.remote(1)) == [2]
        task = asyncio.ensure_future(work.add_async.remote(1))
        assert await task == 2

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
