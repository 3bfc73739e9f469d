"""Generators that are read by half, with the real guest (see `fakes.forked`): all waits end."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from fakes.forked import Forked, ForkEngine

import lifecycle_magic as lm
from lifecycle_magic.exception import InvalidError

FOR_EVER = "would wait forever"


@pytest.fixture(scope="module")
def engine() -> Iterator[ForkEngine]:
    made = ForkEngine()
    yield made
    made.close()


class Yields:
    @lm.method()
    def double(self, x: int) -> int:
        return 2 * x

    @lm.method()
    async def double_async(self, x: int) -> int:
        return 2 * x

    @lm.batched(max_batch_size=2, wait_ms=1)
    @lm.method()
    def double_each(self, x: list[int]) -> list[int]:
        return [2 * one for one in x]

    @lm.method()
    def count(self, most: int) -> Iterator[int]:
        yield from range(most)

    @lm.method()
    async def count_async(self, most: int) -> AsyncIterator[int]:
        for number in range(most):
            yield number


@pytest.fixture(scope="module")
def work(engine: ForkEngine) -> Iterator[Forked]:
    with Forked(engine, Yields, max_containers=1) as made:
        yield made


Waits = Callable[[Forked], Any]

BLOCKING: dict[str, Waits] = {
    "remote": lambda work: work.double.remote(2),
    "remote_of_async": lambda work: work.double_async.remote(2),
    "remote_of_batched": lambda work: work.double_each.remote(2),
    "spawn_get": lambda work: work.double.spawn(2).get(),
    "gather": lambda work: lm.gather(work.double.spawn(2))[0],
    "map": lambda work: next(iter(work.double.map([2]))),
    "map_of_batched": lambda work: next(iter(work.double_each.map([2]))),
    "for_each": lambda work: work.double.for_each([2]) or 4,
    "remote_gen": lambda work: list(work.count.remote_gen(5))[4],
}


def value_of(call: Any) -> Any:
    """Return the result of a call: of a `FunctionCall` its value, otherwise the value itself."""
    return call.get() if isinstance(call, lm.FunctionCall) else call


async def first_of_map(work: Forked) -> Any:
    async for value in work.double.map.aio([2]):
        return value
    return None


async def last_of_gen(work: Forked) -> Any:
    return [number async for number in work.count.remote_gen.aio(5)][4]


async def of_spawn(work: Forked) -> Any:
    return await work.double.spawn(2)


async def of_remote(work: Forked) -> Any:
    return await work.double_async.remote(2)


async def of_get(work: Forked) -> Any:
    return await work.double.spawn(2).get.aio()


AWAITING: dict[str, Callable[[Forked], Awaitable[Any]]] = {
    "remote_aio": lambda work: work.double.remote.aio(2),
    "remote_of_batched_aio": lambda work: work.double_each.remote.aio(2),
    "remote_of_async": of_remote,
    "spawn": of_spawn,
    "spawn_get_aio": of_get,
    "map_aio": first_of_map,
    "remote_gen_aio": last_of_gen,
}


@pytest.mark.parametrize("way", BLOCKING)
def test_a_call_during_a_half_read_generator_is_refused(work: Forked, way: str) -> None:
    half_read = work.count.remote_gen(10)
    assert next(half_read) == 0
    with pytest.raises(InvalidError, match=FOR_EVER):
        BLOCKING[way](work)
    assert list(half_read) == list(range(1, 10))
    assert BLOCKING[way](work) == 4


@pytest.mark.parametrize("way", AWAITING)
@pytest.mark.parametrize("made", ["sync", "async"])
def test_a_coroutine_during_a_half_read_generator_is_refused(
    work: Forked, way: str, made: str
) -> None:
    async def main() -> None:
        if made == "sync":
            half_read: Any = work.count.remote_gen(10)
            assert next(half_read) == 0
        else:
            half_read = work.count_async.remote_gen.aio(10)
            assert await anext(half_read) == 0
        with pytest.raises(InvalidError, match=FOR_EVER):
            await AWAITING[way](work)
        if made == "sync":
            assert list(half_read) == list(range(1, 10))
        else:
            assert [one async for one in half_read] == list(range(1, 10))
        assert await AWAITING[way](work) == 4

    asyncio.run(main())


@pytest.mark.parametrize("way", BLOCKING)
def test_a_call_that_blocks_the_loop_during_a_half_read_generator_is_refused(
    work: Forked, way: str
) -> None:
    async def main() -> None:
        half_read = work.count.remote_gen.aio(10)
        assert await anext(half_read) == 0
        with pytest.raises(InvalidError, match=FOR_EVER):
            value_of(BLOCKING[way](work))
        await half_read.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("way", BLOCKING)
def test_a_generator_that_a_coroutine_leaves_closes_although_its_loop_is_busy(
    work: Forked, way: str
) -> None:
    async def main() -> None:
        async for number in work.count.remote_gen.aio(10**6):
            if number == 3:
                break
        assert value_of(BLOCKING[way](work)) == 4

    asyncio.run(main())


def test_a_generator_of_a_task_that_has_ended_is_known_to_hold_its_slot(work: Forked) -> None:
    async def main() -> None:
        half_read = work.count.remote_gen.aio(10)

        async def take() -> int:
            return await anext(half_read)

        assert await asyncio.create_task(take()) == 0
        with pytest.raises(InvalidError, match=FOR_EVER):
            await work.double.remote.aio(2)
        await half_read.aclose()

    asyncio.run(main())


def test_a_coroutine_waits_for_a_generator_that_another_one_reads(work: Forked) -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def take() -> list[int]:
            numbers = []
            async for number in work.count.remote_gen.aio(5):
                numbers.append(number)
                await go_on.wait()
            return numbers

        async def double() -> int:
            asyncio.get_running_loop().call_soon(go_on.set)
            return int(await work.double.remote.aio(2))

        taken = asyncio.create_task(take())
        while work.pool.containers[0].running == 0:
            await asyncio.sleep(0)
        assert await asyncio.gather(taken, double()) == [[0, 1, 2, 3, 4], 4]

    asyncio.run(main())


@pytest.mark.parametrize("way", BLOCKING)
def test_a_call_that_blocks_the_loop_waits_for_one_that_the_loop_reads(
    work: Forked, way: str
) -> None:
    async def main() -> None:
        before = asyncio.create_task(work.double.remote.aio(1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert value_of(BLOCKING[way](work)) == 4
        assert await before == 2

    asyncio.run(main())


def test_a_generator_as_the_inputs_of_a_map(work: Forked) -> None:
    assert list(work.double.map(work.count.remote_gen(10))) == [2 * n for n in range(10)]
    with pytest.raises(InvalidError, match=FOR_EVER):
        list(work.double.map(work.count.remote_gen(10**6)))
    assert work.double.remote(2) == 4


def test_an_async_generator_as_the_inputs_of_a_map(work: Forked) -> None:
    async def doubled(most: int) -> list[int]:
        return [n async for n in work.double.map.aio(work.count.remote_gen.aio(most))]

    assert asyncio.run(doubled(10)) == [2 * n for n in range(10)]
    with pytest.raises(InvalidError, match=FOR_EVER):
        asyncio.run(doubled(10**6))
    assert work.double.remote(2) == 4


def test_a_map_during_a_generator_that_its_loop_starts(work: Forked) -> None:
    numbers = work.count.remote_gen(10**6)  # more than the results that are there already
    with pytest.raises(InvalidError, match=FOR_EVER):
        list(zip(work.double.map(range(10**6)), numbers, strict=True))
    numbers.close()  # type: ignore[attr-defined]
    assert work.double.remote(2) == 4


def test_nested_generators(work: Forked) -> None:
    with pytest.raises(InvalidError, match=FOR_EVER):
        list(zip(work.count.remote_gen(3), work.count.remote_gen(3), strict=True))
    assert work.double.remote(2) == 4


def test_another_thread_may_wait_for_a_generator_that_is_read_meanwhile(work: Forked) -> None:
    numbers = work.count.remote_gen(10)
    next(numbers)
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.append(work.double.remote(2)))
    thread.start()
    assert list(numbers) == list(range(1, 10))
    thread.join()
    assert got == [4]


def test_the_items_of_an_async_method_are_for_either_loop(work: Forked) -> None:
    assert list(work.count_async.remote_gen(3)) == [0, 1, 2]

    async def main() -> list[int]:
        return [number async for number in work.count_async.remote_gen(3)]

    assert asyncio.run(main()) == [0, 1, 2]
    half_read = work.count_async.remote_gen(3)
    assert next(half_read) == 0
    with contextlib.closing(half_read):  # type: ignore[type-var]
        pass
    assert work.double.remote(2) == 4


def reads_one_and_raises(half_read: Any) -> None:
    raise LookupError(next(half_read))


def reads_one_of_its_own_and_raises(work: Forked) -> None:
    half_read = work.count.remote_gen(10)
    raise LookupError(next(half_read))


@pytest.mark.parametrize("way", BLOCKING)
def test_what_only_a_reported_exception_refers_to_is_closed(
    work: Forked, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        reads_one_of_its_own_and_raises(work)
    except LookupError as error:
        monkeypatch.setattr(sys, "last_value", error, raising=False)  # as a shell does
    assert BLOCKING[way](work) == 4


def test_what_a_variable_refers_to_as_well_can_be_read_on(
    work: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_read = work.count.remote_gen(10)
    try:
        reads_one_and_raises(half_read)
    except LookupError as error:
        monkeypatch.setattr(sys, "last_value", error, raising=False)
    with pytest.raises(InvalidError, match=FOR_EVER):
        work.double.remote(2)
    assert list(half_read) == list(range(1, 10))
