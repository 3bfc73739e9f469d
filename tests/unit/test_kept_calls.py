"""The outcomes of spawned calls that a session keeps: how many, and how much."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest

from lifecycle_magic.callers.function_call import FunctionCall
from lifecycle_magic.calls.forwarded import ForwardedAnswer
from lifecycle_magic.decorators.current_call import call_id
from lifecycle_magic.exception import NotFoundError
from lifecycle_magic.services import kept_calls
from lifecycle_magic.services.kept_calls import KeptCalls


def ended(kept: KeptCalls, id: str, size: int) -> None:
    """Keep a call that ends with a value of so many bytes."""
    future: Future[Any] = Future()
    kept.open(id, "Model.method")
    kept.follow(id, future)
    future.set_result(ForwardedAnswer(bytes(size), [memoryview(b"")]))


def test_the_last_outcomes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_calls, "MAX_CALLS", 3)
    kept = KeptCalls("ab")
    running = kept.add(Future(), "Model.method")
    for number in range(6):
        ended(kept, f"fc-ab-{number}0", 1)
    assert not kept.find(running).future.done()
    assert kept.find("fc-ab-50").future.done()
    with pytest.raises(NotFoundError, match="has no call fc-ab-00: it keeps"):
        kept.find("fc-ab-00")


def test_outcomes_have_a_limit_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_calls, "MAX_BYTES", 100)
    kept = KeptCalls("ab")
    ended(kept, "fc-ab-1", 60)
    ended(kept, "fc-ab-2", 60)
    with pytest.raises(NotFoundError, match="has no call fc-ab-1"):
        kept.find("fc-ab-1")
    assert len(kept.find("fc-ab-2").future.result().data) == 60
    ended(kept, "fc-ab-3", 101)
    with pytest.raises(NotFoundError, match="has 101 bytes, more than 100"):
        kept.find("fc-ab-3").future.result()
    assert kept.find("fc-ab-2").future.done()


def test_an_outcome_is_copied() -> None:
    kept = KeptCalls("ab")
    shared = bytearray(b"before")
    future: Future[Any] = Future()
    kept.open("fc-ab-1", "Model.method")
    kept.follow("fc-ab-1", future)
    future.set_result(ForwardedAnswer(b"", [memoryview(shared)]))
    shared[:] = b"after!"
    assert bytes(kept.find("fc-ab-1").future.result().buffers[0]) == b"before"


def test_cancelling_a_kept_call_cancels_it() -> None:
    kept = KeptCalls("ab")
    future: Future[Any] = Future()
    kept.open("fc-ab-1", "Model.method")
    kept.follow("fc-ab-1", future)
    assert kept.has_running()
    kept.find("fc-ab-1").future.cancel()
    assert future.cancelled()
    assert not kept.has_running()


def test_an_id_that_arrives_before_its_call_waits_for_it() -> None:
    kept = KeptCalls("ab")
    found: Future[Any] = Future()
    finder = threading.Thread(target=lambda: found.set_result(kept.find("fc-ab-0011aabb-1")))
    finder.start()
    kept.open("fc-ab-0011aabb-2", "Model.other")
    kept.open("fc-ab-0011aabb-1", "Model.method")
    assert found.result(60).where == "Model.method"
    finder.join()


def test_only_a_call_that_may_be_on_its_way_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_calls, "MAX_CALLS", 1)
    monkeypatch.setattr(kept_calls, "ARRIVAL_SECONDS", threading.TIMEOUT_MAX)
    kept = KeptCalls("ab")
    for number in range(4):
        ended(kept, f"fc-ab-0011aabb-{number}", 1)
    with pytest.raises(NotFoundError):
        kept.find("fc-ab-0011aabb-0")  # dropped
    with pytest.raises(NotFoundError):
        kept.find("fc-ab-99")  # of the session itself
    monkeypatch.setattr(kept_calls, "ARRIVAL_SECONDS", 0)
    with pytest.raises(NotFoundError):
        kept.find("fc-ab-0011aabb-9")  # never made


def test_the_id_of_a_call_is_the_one_that_its_method_knows() -> None:
    kept = KeptCalls("ab")
    future: Future[Any] = Future()
    assert kept.add(future, "Model().get", number=7) == call_id("ab", 7)
    assert kept.find(call_id("ab", 7)).future is future
    kept.open("fc-ab-1-1", "Model().get")
    kept.also("fc-ab-1-1", 8)
    assert kept.find(call_id("ab", 8)) is kept.find("fc-ab-1-1")


def test_an_outcome_that_is_dropped_is_kept_under_no_other_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept_calls, "MAX_BYTES", 100)
    kept = KeptCalls("ab")
    first, second = 1 << 60, (1 << 60) + 1  # of no input of this process
    for number in (first, second):
        future: Future[Any] = Future()
        kept.open(f"fc-ab-cd-{number}", "Model.method")
        kept.follow(f"fc-ab-cd-{number}", future)
        kept.also(f"fc-ab-cd-{number}", number)
        future.set_result(ForwardedAnswer(bytes(60), []))
    assert kept.find(call_id("ab", second)).future.done()
    with pytest.raises(NotFoundError, match="has no call"):
        kept.find(call_id("ab", first))


def test_a_started_call_is_found_while_it_runs_or_has_a_handle() -> None:
    kept = KeptCalls("ab")
    numbers = [1 << 60, (1 << 60) + 1]  # of no input of this process
    futures: list[Future[Any]] = [Future(), Future()]
    for future, number in zip(futures, numbers, strict=True):
        FunctionCall(future, "Model().get").set_number(number)
    assert kept.find(call_id("ab", numbers[0])) == (futures[0], "Model().get")
    with pytest.raises(NotFoundError):
        kept.find(call_id("cd", numbers[0]))
    del future
    futures.clear()
    assert kept.find(call_id("ab", numbers[0]))  # kept since it was found
    with pytest.raises(NotFoundError, match=r"Fix: start the call with \.spawn"):
        kept.find(call_id("ab", numbers[1]))


def test_a_call_of_a_batch_has_an_id_that_no_input_has() -> None:
    kept = KeptCalls("ab")
    ids = {kept.add(Future(), "Model().get") for _ in range(3)}
    assert len(ids) == 3
    assert not ids & {call_id("ab", number) for number in range(9)}
