"""What a handle changes about its containers: their number, and the inputs that each takes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from engine.work import Site, Work, wait_for
from handle_state import pool_of, spec_of

import lifecycle_magic as lm
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.lifecycle.states import WARM_STATES
from lifecycle_magic.session import session


def warm() -> int:
    return sum(container.state in WARM_STATES for container in session.current().containers())


def test_a_handle_takes_several_inputs_at_once(site_on_each: Site) -> None:
    cls = site_on_each.cls()
    work = cls.with_concurrency(max_inputs=2)(site_on_each.folder.path)
    calls = [work.hold.spawn(name) for name in "ab"]
    for name in "ab":
        site_on_each.folder.wait(f"began-{name}")  # at once, in one container
    site_on_each.go("a", "b")
    assert lm.gather(*calls) == ["a", "b"]
    assert site_on_each.folder.count("enter") == 1
    assert cls(site_on_each.folder.path).who.remote() != work.who.remote()


@pytest.mark.process
def test_a_target_below_the_most_adds_containers_sooner(site: Site) -> None:
    cls = site.cls(max_containers=2)
    changed = cls.with_concurrency(max_inputs=2, target_inputs=1)
    work = changed(site.folder.path)
    calls = [work.hold.spawn(name) for name in "ab"]
    for name in "ab":
        site.folder.wait(f"began-{name}")
    site.folder.wait("enter", 2)
    site.go("a", "b")
    lm.gather(*calls)


def test_a_handle_gathers_calls_in_batches(site_on_each: Site) -> None:
    @site_on_each.app.cls()
    class Sums:
        @lm.batched(max_batch_size=1, wait_ms=0)
        def size(self, numbers: list[int]) -> list[int]:
            return [len(numbers)] * len(numbers)

    sums: Any = Sums
    assert sums().size.remote(5) == 1
    batched = sums.with_batching(max_batch_size=3, wait_ms=60_000)()
    assert lm.gather(*(batched.size.spawn(n) for n in range(3))) == [3, 3, 3]


@pytest.mark.process
def test_the_only_method_is_batched_where_none_is(site: Site) -> None:
    @site.app.function()
    def size(numbers: Any) -> Any:
        return [len(numbers)] * len(numbers)

    function: Any = size
    batched = function.with_batching(max_batch_size=2, wait_ms=60_000)
    assert lm.gather(*(batched.spawn(n) for n in range(2))) == [2, 2]
    with pytest.raises(InvalidError, match="no method of Work has @batched"):
        site.cls().with_batching(max_batch_size=2, wait_ms=1)


@pytest.mark.process
def test_changes_add_up_and_equal_ones_share_containers(site: Site) -> None:
    cls = site.cls()
    one = cls.with_concurrency(max_inputs=2).with_options(timeout=600)
    assert cls.with_concurrency(max_inputs=2) == cls.with_concurrency(max_inputs=2)
    assert cls.with_concurrency(max_inputs=2) != cls.with_concurrency(max_inputs=3)
    assert spec_of(one).max_inputs == 2
    assert spec_of(one).options.timeout == 600
    assert one(site.folder.path).who.remote() == one(site.folder.path).who.remote()
    site.app.stop()
    assert site.folder.count("exit") == 1


def test_impossible_numbers_are_refused_at_once() -> None:
    app = lm.App()

    @app.cls()
    class Model:
        @lm.method()
        def get(self) -> int:
            return 1

    cls: Any = Model
    with pytest.raises(InvalidError, match="with_concurrency: max_inputs=0"):
        cls.with_concurrency(max_inputs=0)
    with pytest.raises(InvalidError, match="with_batching: wait_ms=-1"):
        cls.with_batching(max_batch_size=2, wait_ms=-1)
    with pytest.raises(InvalidError, match="single_use_containers=True and @concurrent"):
        cls.with_options(single_use_containers=True).with_concurrency(max_inputs=2)


# --- update_autoscaler ---------------------------------------------------------------------------


@pytest.mark.process
def test_containers_are_started_for_a_new_minimum(site: Site) -> None:
    work = site.instance()
    work.update_autoscaler(min_containers=2)
    site.folder.wait("enter", 2)
    wait_for(lambda: warm() == 2, "two containers are warm")


@pytest.mark.process
def test_containers_above_a_new_maximum_stop(site: Site) -> None:
    work = site.instance(max_containers=2)
    calls = [work.hold.spawn(name) for name in "ab"]
    for name in "ab":
        site.folder.wait(f"began-{name}")
    site.go("a", "b")
    lm.gather(*calls)
    asyncio.run(work.update_autoscaler.aio(max_containers=1))
    site.folder.wait("exit", 1)
    assert warm() == 1
    assert work.echo.remote(1) == 1


@pytest.mark.process
def test_a_new_window_stops_an_idle_container(site: Site) -> None:
    work = site.instance()
    work.echo.remote(1)
    work.update_autoscaler(scaledown_window=0.05)
    site.folder.wait("exit", 1)


@pytest.mark.process
def test_updates_hold_until_the_class_is_declared_again(site: Site) -> None:
    work = site.instance()
    work.update_autoscaler(max_containers=3)
    work.update_autoscaler(buffer_containers=1)
    limits = pool_of(work.echo).limits
    assert (limits.most, limits.buffer) == (3, 1)
    again = site.instance()
    again.echo.remote(1)
    limits = pool_of(again.echo).limits
    assert (limits.most, limits.buffer) == (1, 0)


@pytest.mark.process
def test_a_function_is_scaled_like_a_class(site: Site) -> None:
    @site.app.function()
    def one() -> int:
        return 1

    function: Any = one
    function.update_autoscaler(min_containers=1)
    wait_for(lambda: warm() == 1, "its container is warm")
    with pytest.raises(InvalidError, match="update_autoscaler has no option cpu"):
        function.update_autoscaler(cpu=2)
    with pytest.raises(InvalidError, match="min_containers"):
        function.update_autoscaler(min_containers=-1)
    assert function.with_options(timeout=60).remote() == 1
    assert function.get_raw_f()() == 1
    assert not function.is_generator


@pytest.mark.process
def test_a_method_of_the_same_name_is_the_users_own(site: Site) -> None:
    class Own(Work):
        @lm.method()
        def update_autoscaler(self) -> str:
            return "mine"

    assert site.instance(Own).update_autoscaler.remote() == "mine"


@pytest.mark.process
def test_the_inputs_that_wait_are_counted(site: Site) -> None:
    work = site.instance()
    assert work.hold.get_current_stats() == (0, 0)
    calls = [work.hold.spawn(name) for name in "abc"]
    site.folder.wait("began-a")
    stats = asyncio.run(work.hold.get_current_stats.aio())
    assert (stats.backlog, stats.num_total_runners) == (2, 1)
    site.go(*"abc")
    lm.gather(*calls)
    assert work.hold.get_current_stats() == (0, 1)
