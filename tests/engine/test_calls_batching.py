"""``@batched``: single inputs of many callers in one call."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from engine.work import Folder, Site

import lifecycle_magic as lm
from lifecycle_magic.exception import InputCancelled, InvalidError, SerializationError

pytestmark = pytest.mark.process

LONG = 600_000  # ms: what waits that long was never sent for being overdue


class Batches:
    def __init__(self, path: str) -> None:
        self.folder = Folder(path)

    @lm.batched(max_batch_size=3, wait_ms=LONG)
    def full(self, numbers: list[int], scale: list[int] = 10) -> list[Any]:  # type: ignore[assignment]
        """Each answer tells of its whole batch."""
        return [(n * k, len(numbers)) for n, k in zip(numbers, scale, strict=True)]

    @lm.batched(max_batch_size=100, wait_ms=30)
    def partial(self, numbers: list[int]) -> list[Any]:
        return [(n, len(numbers)) for n in numbers]

    @lm.batched(max_batch_size=2, wait_ms=LONG)
    async def twice(self, numbers: list[int]) -> list[int]:
        await asyncio.sleep(0)
        return [2 * n for n in numbers]

    @lm.batched(max_batch_size=2, wait_ms=LONG)
    def strange(self, numbers: list[int]) -> Any:
        if 13 in numbers:
            return numbers[:1]
        if 14 in numbers:
            return 14
        if 15 in numbers:
            raise LookupError("fifteen")
        return numbers

    @lm.batched(max_batch_size=2, wait_ms=LONG)
    def hold(self, names: list[str]) -> list[str]:
        try:
            for name in names:
                self.folder.note(f"began-{name}")
            for name in names:
                self.folder.wait(f"go-{name}")
        except KeyboardInterrupt:
            self.folder.note("interrupted")
            raise
        return names


@pytest.fixture
def batches(site: Site) -> Any:
    return site.instance(Batches)


def test_a_full_batch_runs_at_once(batches: Any) -> None:
    calls = [batches.full.spawn(n) for n in (1, 2, 3)]
    assert [call.get(timeout=60) for call in calls] == [(10, 3), (20, 3), (30, 3)]


def test_defaults_and_names_of_arguments_are_filled_in_for_each_input(batches: Any) -> None:
    calls = [
        batches.full.spawn(1),
        batches.full.spawn(2, 5),
        batches.full.spawn(scale=7, numbers=3),
    ]
    assert [call.get(timeout=60)[0] for call in calls] == [10, 10, 21]


def test_a_partial_batch_runs_when_it_has_waited(batches: Any) -> None:
    calls = [batches.partial.spawn(n) for n in (1, 2)]
    answers = [call.get(timeout=60) for call in calls]
    assert [n for n, _ in answers] == [1, 2]
    assert all(size in (1, 2) for _, size in answers)


def test_a_single_remote_call_is_a_batch_of_one(batches: Any) -> None:
    assert batches.partial.remote(7) == (7, 1)


def test_callers_on_several_threads_with_handles_of_their_own_fill_one_batch(site: Site) -> None:
    model = site.cls(Batches)
    answers: list[Any] = []

    def call(number: int) -> None:
        answers.append(model(site.folder.path).full.remote(number))

    threads = [threading.Thread(target=call, args=(n,)) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [(10, 3), (20, 3), (30, 3)]


def test_async_batched_methods_and_awaited_callers(batches: Any) -> None:
    async def main() -> list[int]:
        return await asyncio.gather(*(batches.twice.remote.aio(n) for n in (1, 2, 3, 4)))

    assert asyncio.run(main()) == [2, 4, 6, 8]


def test_a_map_goes_in_batches_and_in_order(batches: Any) -> None:
    answers = list(batches.full.map(range(9)))
    assert answers == [(10 * n, 3) for n in range(9)]


def test_the_rest_of_a_map_goes_as_a_partial_batch(batches: Any) -> None:
    assert [n for n, _ in batches.partial.map(range(250))] == list(range(250))


@pytest.mark.parametrize(
    ("bad", "error", "match"),
    [
        (13, InvalidError, "a batch of 2 and returned a list of 1"),
        (14, InvalidError, "returned int"),
        (15, LookupError, "fifteen"),
    ],
)
def test_a_batch_that_goes_wrong_fails_alone(
    batches: Any, bad: int, error: type[Exception], match: str
) -> None:
    wrong = [batches.strange.spawn(n) for n in (1, bad)]
    right = [batches.strange.spawn(n) for n in (2, 3)]
    raised = []
    for call in wrong:
        with pytest.raises(error, match=match) as caught:
            call.get(timeout=60)
        raised.append(caught.value)
    assert raised[0] is not raised[1]  # each caller has an exception of its own
    assert [call.get(timeout=60) for call in right] == [2, 3]


def test_arguments_that_the_method_does_not_take_fail_their_caller_alone(batches: Any) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'color'"):
        batches.strange.spawn(1, color="red")
    calls = [batches.strange.spawn(n) for n in (1, 2)]
    assert [call.get(timeout=60) for call in calls] == [1, 2]


def test_an_argument_that_cannot_travel_fails_its_caller_and_nobody_else(batches: Any) -> None:
    first = batches.strange.spawn(1)
    with pytest.raises(SerializationError, match="lock"):
        batches.strange.spawn(threading.Lock())
    second = batches.strange.spawn(2)
    assert [call.get(timeout=60) for call in (first, second)] == [1, 2]


def test_who_cancels_before_the_batch_leaves_is_not_in_it(batches: Any) -> None:
    first = batches.strange.spawn(13)
    first.cancel()
    second = batches.strange.spawn(2)
    third = batches.strange.spawn(3)
    assert (second.get(timeout=60), third.get(timeout=60)) == (2, 3)
    with pytest.raises(InputCancelled):
        first.get()


def test_one_who_cancels_does_not_stop_the_others(site: Site, batches: Any) -> None:
    stays, leaves = batches.hold.spawn("a"), batches.hold.spawn("b")
    site.folder.wait("began-b")
    leaves.cancel()
    site.go("a", "b")
    assert stays.get(timeout=60) == "a"
    assert "interrupted" not in site.folder.events()


def test_a_batch_that_everybody_has_left_is_interrupted(site: Site, batches: Any) -> None:
    calls = [batches.hold.spawn("a"), batches.hold.spawn("b")]
    site.folder.wait("began-b")
    for call in calls:
        call.cancel()
    site.folder.wait("interrupted")
    assert batches.partial.remote(1) == (1, 1)
