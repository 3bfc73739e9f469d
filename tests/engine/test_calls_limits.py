"""``timeout``, ``startup_timeout`` and ``retries``: what is tried again, how often, and what is
not."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import pytest
from engine.work import Folder, Site, Work, time_limit

import lifecycle_magic as lm
from lifecycle_magic.exception import (
    ContainerDied,
    InputCancelled,
    MethodTimeout,
    SerializationError,
    StartTimeout,
)

pytestmark = pytest.mark.process

AT_ONCE = {"initial_delay": 0.0, "max_delay": 0.0}


def retries(count: int, **given: Any) -> lm.Retries:
    return lm.Retries(max_retries=count, **{**AT_ONCE, **given})


# --- timeout ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["hold", "hold_async"])
@pytest.mark.parametrize("way", ["remote", "spawn", "aio", "map"])
def test_an_attempt_that_takes_too_long_is_interrupted(site: Site, way: str, method: str) -> None:
    work = site.instance()
    before = work.who.remote()
    method = getattr(work, method)
    calls = {
        "remote": lambda: _value(method, "a"),
        "spawn": lambda: method.spawn("a").get(),
        "aio": lambda: asyncio.run(_await(method.remote.aio("a"))),
        "map": lambda: list(method.map(["a"])),
    }
    too_long = "took longer than timeout=1 s and was interrupted"
    with time_limit(work.who, 1), pytest.raises(MethodTimeout, match=too_long):
        calls[way]()
    site.folder.wait("interrupted-a")
    assert work.who.remote() == before


def _value(method: Any, name: str) -> Any:
    value = method.remote(name)
    return value.get() if isinstance(value, lm.FunctionCall) else value


async def _await(awaitable: Any) -> Any:
    return await awaitable


def test_the_time_in_the_queue_does_not_count(site: Site) -> None:
    work = site.instance(timeout=30)
    first, second = work.hold.spawn("a"), work.hold.spawn("b")
    site.folder.wait("began-a")
    # The second one's time begins with its turn: none is running for it yet.
    assert second.done() is False
    site.go("a", "b")
    assert lm.gather(first, second) == ["a", "b"]


def test_each_attempt_has_the_whole_time(site: Site) -> None:
    class Second(Work):
        @lm.method()
        def slow_first(self, _: int = 0) -> int:
            tries = self.tries.setdefault("x", 0) + 1
            self.tries["x"] = tries
            if tries == 1:
                self.hold("never")
            return tries

    work = site.instance(Second, timeout=2, retries=retries(1))
    assert work.slow_first.remote() == 2
    assert list(work.slow_first.map([1])) == [3]


@pytest.mark.slow
def test_a_method_that_ignores_its_timeout_costs_its_container(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    work = site.instance()
    before = work.who.remote()
    too_long = "did not stop when interrupted; its container is replaced"
    with time_limit(work.who, 1), pytest.raises(MethodTimeout, match=too_long):
        work.deaf.remote("a")
    assert "did not stop within 5 s" in capfd.readouterr().err
    assert work.who.remote() != before


def test_a_map_whose_input_takes_too_long_goes_on_with_the_others(site: Site) -> None:
    site.go("a", "c")
    work = site.instance(timeout=2)
    got = list(work.hold.map(["a", "b", "c"], return_exceptions=True))
    assert got[0::2] == ["a", "c"]
    assert isinstance(got[1], MethodTimeout)
    assert site.folder.count("enter") == 1


# --- startup_timeout ------------------------------------------------------------------------------


class SlowStart:
    def __init__(self, path: str) -> None:
        self.folder = Folder(path)

    @lm.enter()
    def load(self) -> None:
        self.folder.note("entering")
        self.folder.wait("ready")

    @lm.method()
    def hello(self) -> str:
        return "hello"


def test_a_start_that_takes_too_long_says_which_option_gives_it_longer(site: Site) -> None:
    work = site.instance(SlowStart, startup_timeout=1)
    with pytest.raises(StartTimeout, match=r"within startup_timeout=1 s.*Fix: set a longer"):
        work.hello.remote()
    site.folder.note("ready")
    assert work.hello.remote() == "hello"


def test_a_start_does_not_count_as_part_of_an_attempt(site: Site) -> None:
    work = site.instance(SlowStart, timeout=2)
    call = work.hello.spawn()
    site.folder.wait("entering")
    with pytest.raises(TimeoutError, match="has not returned within"):
        call.get(timeout=2.5)  # longer than `timeout`, and nothing came of it
    site.folder.note("ready")
    assert call.get(timeout=60) == "hello"


# --- retries --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["remote", "spawn", "aio", "map"])
def test_a_failing_method_is_tried_so_many_times_again(site: Site, way: str) -> None:
    work = site.instance(retries=retries(2))
    calls = {
        "remote": lambda times, key: work.fail_first.remote(times, key),
        "spawn": lambda times, key: work.fail_first.spawn(times, key).get(),
        "aio": lambda times, key: asyncio.run(_await(work.fail_first.remote.aio(times, key))),
        "map": lambda times, key: next(work.fail_first.map([times], [key])),
    }
    assert calls[way](2, "a") == 3
    with pytest.raises(LookupError, match="try 3"):
        calls[way](9, "b")
    assert site.folder.count("tried-b") == 3


def test_a_plain_number_of_retries_has_the_default_delays(site: Site) -> None:
    work = site.instance(retries=1)
    assert work.fail_first.remote(1, "a") == 2


def test_without_retries_nothing_is_tried_again(site: Site) -> None:
    with pytest.raises(LookupError, match="try 1"):
        site.instance().fail_first.remote(1, "a")
    assert site.folder.count("tried-a") == 1


def test_what_a_dead_container_was_running_is_tried_in_another(site: Site) -> None:
    work = site.instance(retries=retries(1))
    assert work.die.remote("a") == "a"
    assert work.die.spawn("b").get() == "b"
    assert list(work.die.map(["c", "d"])) == ["c", "d"]
    assert site.folder.count("enter") == 5


def test_without_retries_a_death_fails_what_ran_and_nothing_else(site: Site) -> None:
    work = site.instance()
    calls = [work.die.spawn("a"), work.echo.spawn(1), work.echo.spawn(2)]
    with pytest.raises(ContainerDied, match=r"the container of Work\.die exited .*exit code 3"):
        calls[0].get()
    assert [call.get() for call in calls[1:]] == [1, 2]


def test_a_timeout_is_tried_again(site: Site) -> None:
    work = site.instance(timeout=1, retries=retries(1))
    with pytest.raises(MethodTimeout):
        work.hold.remote("a")
    assert site.folder.count("began-a") == 2


def test_a_cancelled_call_is_not_tried_again(site: Site) -> None:
    work = site.instance(retries=retries(5))
    call = work.hold.spawn("a")
    site.folder.wait("began-a")
    call.cancel()
    site.folder.wait("interrupted-a")
    with pytest.raises(InputCancelled):
        call.get()
    assert work.echo.remote(1) == 1
    assert site.folder.count("began-a") == 1


def test_a_result_that_cannot_travel_is_not_tried_again(site: Site) -> None:
    work = site.instance(retries=retries(5))
    with pytest.raises(SerializationError):
        work.unpicklable.remote()
    assert site.folder.count("unpicklable") == 1


def test_wrong_use_is_not_tried_again(site: Site) -> None:
    class Strict(Work):
        @lm.method()
        def refuse(self) -> None:
            self.folder.note("refuse")
            raise lm.exception.InvalidError("not like this")

    with pytest.raises(lm.exception.InvalidError, match="not like this"):
        site.instance(Strict, retries=retries(5)).refuse.remote()
    assert site.folder.count("refuse") == 1


def test_an_interrupt_ends_the_pause_between_two_attempts(site: Site) -> None:
    work = site.instance(retries=lm.Retries(max_retries=3, initial_delay=60))
    work.echo.remote(1)

    def interrupt() -> None:
        site.folder.wait("tried-a")
        # It may still be on its way back: then it is an interrupt of the call, with the same end.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        work.fail_first.remote(9, "a")
    thread.join()
    assert site.folder.count("tried-a") == 1
    assert work.echo.remote(1) == 1


def test_another_call_is_served_while_one_waits_to_be_tried_again(site: Site) -> None:
    work = site.instance(retries=lm.Retries(max_retries=1, initial_delay=60))
    failing = work.fail_first.spawn(9, "a")
    site.folder.wait("tried-a")
    assert work.echo.remote(1) == 1
    failing.cancel()


def test_an_order_is_kept_through_retries(site: Site) -> None:
    work = site.instance(max_containers=2, retries=retries(2))
    got = list(work.fail_first.map([1] * 50, range(50)))
    assert len(got) == 50
    assert all(value >= 1 for value in got)
