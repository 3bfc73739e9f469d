"""Pools: how many containers there are, which inputs they get, and when they go."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from engine.work import Folder, Site, Work, wait_for
from handle_state import pool_of

import lifecycle_magic as lm
from lifecycle_magic.calls.map.mapping import MapRun
from lifecycle_magic.calls.map.pump import Pump
from lifecycle_magic.exception import InputCancelled, StartError
from lifecycle_magic.lifecycle.states import WARM_STATES, Notice
from lifecycle_magic.session import session

pytestmark = pytest.mark.process


def warm() -> int:
    """How many containers the session has that could take an input."""
    return sum(container.state in WARM_STATES for container in session.current().containers())


# --- more of them --------------------------------------------------------------------------------


def test_containers_are_added_while_inputs_wait_up_to_the_most(site: Site) -> None:
    work = site.instance(max_containers=3)
    calls = [work.hold.spawn(name) for name in "abcde"]
    for name in "abc":
        site.folder.wait(f"began-{name}")
    assert site.folder.count("enter") == 3
    assert not {"began-d", "began-e"} & site.folder.events()
    site.go(*"abcde")
    assert lm.gather(*calls) == list("abcde")
    assert site.folder.count("enter") == 3


def test_there_is_one_container_where_nothing_is_said(site: Site) -> None:
    work = site.instance()
    lm.gather(*(work.echo.spawn(n) for n in range(20)))
    assert site.folder.count("enter") == 1


def test_the_least_are_started_with_the_first_input(site: Site) -> None:
    work = site.instance(min_containers=2)
    assert work.echo.remote(1) == 1
    site.folder.wait("enter", 2)


def test_a_new_least_holds_for_a_pool_that_is_made_later(site: Site) -> None:
    site.instance(min_containers=1).echo.remote(1)
    work = site.instance(min_containers=2)
    assert work.echo.remote(1) == 1  # nothing else changed, so nothing is deployed
    site.app.stop()
    before = site.folder.count("enter")
    assert work.echo.remote(1) == 1
    site.folder.wait("enter", before + 2)


def test_one_of_the_least_is_replaced_when_it_dies(site: Site) -> None:
    work = site.instance(min_containers=2, max_containers=2)
    work.echo.remote(1)
    site.folder.wait("enter", 2)
    with pytest.raises(lm.exception.ContainerDied):
        work.die.remote()
    site.folder.wait("enter", 3)


def test_a_spare_is_there_when_the_others_are_busy(site: Site) -> None:
    work = site.instance(buffer_containers=1, max_containers=3)
    first = work.hold.spawn("a")
    site.folder.wait("began-a")
    site.folder.wait("enter", 2)  # nothing waits for it
    wait_for(lambda: warm() == 2, "the spare is up")
    second = work.hold.spawn("b")  # it gets the spare, and a new spare comes up
    site.folder.wait("began-b")
    site.folder.wait("enter", 3)
    site.go("a", "b")
    lm.gather(first, second)


def test_places_of_concurrent_containers_count(site: Site) -> None:
    many = lm.concurrent(max_inputs=2)(type("Many", (Work,), {"__module__": __name__}))
    work = site.instance(many, max_containers=4)
    calls = [work.hold.spawn(name) for name in "abc"]
    for name in "abc":
        site.folder.wait(f"began-{name}")
    site.go(*"abc")
    lm.gather(*calls)
    assert site.folder.count("enter") == 2


# --- how inputs are spread -----------------------------------------------------------------------


def test_no_container_idles_while_another_has_something_queued(site: Site) -> None:
    """One slow input among many quick ones: the other container does all of those meanwhile."""
    work = site.instance(max_containers=2)
    names = ["slow", *range(200)]
    site.go(*range(200))

    def let_go() -> None:
        for number in range(200):
            site.folder.wait(f"began-{number}")
        site.go("slow")  # only when every other one has begun elsewhere

    thread = threading.Thread(target=let_go)
    thread.start()
    assert list(work.hold.map(names, progress=False)) == names
    thread.join()


class Sleeps:
    """What was sent ahead to a container is taken back when another one runs dry."""

    def __init__(self, path: str) -> None:
        self.folder = Folder(path)

    @lm.method()
    def nap(self, name: Any) -> Any:
        self.folder.note(f"began-{name}")
        if name == "slow":
            self.folder.wait("go-slow")
        return name


def test_what_waits_behind_a_slow_input_is_taken_back(site: Site) -> None:
    work = site.instance(Sleeps, max_containers=2)
    names = [*range(300), "slow", *range(300, 330)]  # quick ones first: they are sent far ahead

    def let_go() -> None:
        for name in names:
            site.folder.wait(f"began-{name}")
        site.go("slow")

    thread = threading.Thread(target=let_go)
    thread.start()
    assert list(work.nap.map(names, progress=False)) == names
    thread.join()
    assert all(site.folder.count(f"began-{name}") == 1 for name in names)


def test_the_next_input_is_at_the_container_when_one_ends(site: Site) -> None:
    """It begins although nothing moves in the kernel any more."""
    work = site.instance()
    mapping = MapRun(pool_of(work.hold), "hold")
    pump = mapping._pump
    assert isinstance(pump, Pump)
    mapping.feed(((name,), {}) for name in "ab")
    wait_for(lambda: [len(slot.sent) for slot in pump._slots] == [2], "both are sent")
    go_on = threading.Event()
    pump.post(go_on.wait)  # type: ignore[arg-type]
    site.go("a")
    site.folder.wait("began-b")
    go_on.set()
    site.go("b")
    assert list(mapping.results()) == ["a", "b"]
    mapping.close()


# --- fewer of them -------------------------------------------------------------------------------


def test_idle_containers_go_after_the_window_and_each_runs_its_exit(site: Site) -> None:
    work = site.instance(max_containers=3, scaledown_window=0.3)
    calls = [work.hold.spawn(name) for name in "abc"]
    for name in "abc":
        site.folder.wait(f"began-{name}")
    site.go(*"abc")
    lm.gather(*calls)
    site.folder.wait("exit", 3)
    assert work.echo.remote(1) == 1  # and the next input starts afresh
    assert site.folder.count("enter") == 4


def test_the_least_stay(site: Site) -> None:
    work = site.instance(min_containers=1, max_containers=3, scaledown_window=0.2)
    calls = [work.hold.spawn(name) for name in "abc"]
    for name in "abc":
        site.folder.wait(f"began-{name}")
    site.go(*"abc")
    lm.gather(*calls)
    site.folder.wait("exit", 2)
    assert work.echo.remote(1) == 1
    assert site.folder.count("enter") == 3
    assert site.folder.count("exit") == 2


def test_a_busy_container_does_not_go(site: Site) -> None:
    work = site.instance(max_containers=2, scaledown_window=0.2)
    first, second = work.hold.spawn("a"), work.hold.spawn("b")
    site.folder.wait("began-a")
    site.folder.wait("began-b")
    site.go("b")
    assert second.get() == "b"
    site.folder.wait("exit")  # the idle one
    site.go("a")
    assert first.get() == "a"


def test_without_a_window_a_container_stays(site: Site) -> None:
    work = site.instance()
    before = work.who.remote()
    assert work.who.remote() == before
    assert site.folder.count("exit") == 0


# --- what does not come up -----------------------------------------------------------------------


class DiesInEnter(Work):
    @lm.enter()
    def load_more(self) -> None:
        import os

        os._exit(9)


def test_a_death_in_enter_fails_everybody_who_waits_with_the_reason(site: Site) -> None:
    work = site.instance(DiesInEnter, max_containers=2, min_containers=2)
    calls = [work.echo.spawn(n) for n in range(5)]
    for call in calls:
        with pytest.raises(StartError, match=r"died in enter.*exit code 9"):
            call.get()
    assert site.folder.count("enter") <= 3  # it did not go on trying


class DiesWhenIdle(Work):
    @lm.enter()
    def load_more(self) -> None:
        import os
        import threading

        def end() -> None:
            self.folder.wait("end")
            os._exit(9)

        threading.Thread(target=end, daemon=True).start()


def test_a_crash_loop_stops_after_three_in_a_row_and_says_why(site: Site) -> None:
    """Containers that are to be kept, and die before anybody calls."""
    notices: list[str] = []
    session.current().bus.subscribe(
        lambda event: notices.append(event.text) if isinstance(event, Notice) else None
    )
    work = site.instance(DiesWhenIdle, min_containers=1)
    assert work.echo.remote(1) == 1
    site.folder.note("end")  # of this one, and of each that takes its place

    def told() -> list[str]:
        return [text for text in notices if "in a row died" in text]

    wait_for(told, "a notice that it stopped")
    assert "3 containers of DiesWhenIdle in a row died before they answered a call" in told()[0]
    assert "exit code 9" in told()[0]
    assert site.folder.count("enter") == 4


# --- pools ---------------------------------------------------------------------------------------


class Parametrized:
    size: str = lm.parameter(default="small")

    @lm.enter()
    def load(self) -> None:
        import uuid

        self.id = uuid.uuid4().hex

    @lm.method()
    def who(self) -> tuple[str, str]:
        return self.size, self.id


def test_equal_arguments_share_containers_and_others_do_not(site: Site) -> None:
    model = site.app.cls(Parametrized)
    small = model(size="small").who.remote()
    assert model().who.remote() == small  # an omitted default equals the same default given
    assert model(size="small").who.remote() == small
    large = model(size="large").who.remote()
    assert large[0] == "large"
    assert large[1] != small[1]
    assert model(size="large").who.remote() == large


def test_a_first_call_from_many_threads_at_once_deploys_once(site: Site) -> None:
    model = site.cls()
    answers: list[str] = []
    ready = threading.Barrier(8)

    def call() -> None:
        ready.wait()
        answers.append(model(site.folder.path).who.remote())

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert len(set(answers)) == 1


def test_stopping_the_app_cancels_calls_and_runs_every_exit(site: Site) -> None:
    work = site.instance()
    running, waiting = work.hold.spawn("a"), work.hold.spawn("b")
    site.folder.wait("began-a")
    site.app.stop()
    with pytest.raises(InputCancelled, match=r"app\.stop\(\)"):
        running.get()
    with pytest.raises(StartError, match=r"app\.stop\(\)"):
        waiting.get()
    assert site.folder.count("exit") == 1
