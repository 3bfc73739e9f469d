"""``map``, ``starmap`` and ``for_each``: order, laziness, failures, and what leaving early does."""

from __future__ import annotations

import asyncio
import io
import itertools
import signal
import sys
import threading
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine.work import Site, wait_for

from lifecycle_magic.calls.map.mapping import WINDOW
from lifecycle_magic.exception import ContainerDied, SerializationError

pytestmark = pytest.mark.process


# --- what comes out ---------------------------------------------------------------------------


def test_results_come_in_the_order_of_the_inputs(site_on_each: Site) -> None:
    work = site_on_each.instance(max_containers=2)
    assert list(work.echo.map(range(500))) == list(range(500))


def test_the_slowest_input_holds_up_no_other_where_order_is_not_asked_for(site: Site) -> None:
    work = site.instance(max_containers=2)
    results = work.hold.map(["slow", "quick", "also quick"], order_outputs=False)
    site.go("quick", "also quick")
    assert {next(results), next(results)} == {"quick", "also quick"}
    site.go("slow")
    assert list(results) == ["slow"]


def test_a_later_result_waits_for_an_earlier_one_where_it_is(site: Site) -> None:
    work = site.instance(max_containers=2)
    site.go("quick")

    def let_go() -> None:
        site.folder.wait("began-slow")
        site.folder.wait("began-quick")
        site.go("slow")

    thread = threading.Thread(target=let_go)
    thread.start()
    assert list(work.hold.map(["slow", "quick"])) == ["slow", "quick"]
    thread.join()


def test_several_iterables_give_several_arguments_and_the_shortest_ends_it(site: Site) -> None:
    work = site.instance()
    got = list(work.echo.map([1, 2, 3], "ab", kwargs={"flag": True}))
    assert got == [(1, "a", {"flag": True}), (2, "b", {"flag": True})]


def test_starmap_takes_tuples_of_arguments(site: Site) -> None:
    got = list(site.instance().echo.starmap([(1, 2), (3, 4)], kwargs={"k": 0}))
    assert got == [(1, 2, {"k": 0}), (3, 4, {"k": 0})]


def test_for_each_runs_each_input_and_returns_nothing(site: Site) -> None:
    site.go("a", "b")
    assert site.instance().hold.for_each(["a", "b"]) is None
    assert {"began-a", "began-b"} <= site.folder.events()


def test_a_map_over_nothing_is_empty_and_starts_nothing(site: Site) -> None:
    assert list(site.instance().echo.map([])) == []
    assert site.folder.count("enter") == 0


def test_async_methods_can_be_mapped(site: Site) -> None:
    work = site.instance()
    site.go("a", "b")
    assert list(work.hold_async.map(["a", "b"])) == ["a", "b"]


def test_large_inputs_and_results_pass(site: Site) -> None:
    inputs = [bytes([n]) * 1_000_000 for n in range(20)]
    assert list(site.instance(max_containers=2).echo.map(inputs)) == inputs


# --- laziness -----------------------------------------------------------------------------------


def test_an_endless_input_can_be_mapped(site: Site) -> None:
    results = site.instance().echo.map(itertools.count())
    assert list(itertools.islice(results, 2500)) == list(range(2500))
    results.close()


def test_inputs_are_taken_only_a_window_ahead_of_the_results(site: Site) -> None:
    taken = []

    def inputs() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    results = site.instance().echo.map(inputs())
    for seen in range(1, 3 * WINDOW):
        next(results)
        assert len(taken) - seen <= WINDOW
    results.close()


class Tracked:
    """An input that can be counted while it is alive."""

    alive = 0

    def __init__(self, number: int) -> None:
        self.number = number
        Tracked.alive += 1
        weakref.finalize(self, Tracked.gone)

    @staticmethod
    def gone() -> None:
        Tracked.alive -= 1

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (self.number,)


def test_a_long_map_holds_no_more_inputs_than_a_window(site: Site) -> None:
    number, most = 6_000, 0
    tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        for _ in site.instance(timeout=300).echo.map(map(Tracked, range(number)), progress=False):
            most = max(most, Tracked.alive)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most <= WINDOW + 1
    assert peak < 10_000_000


def test_an_input_may_depend_on_an_output(site: Site) -> None:
    work = site.instance(max_containers=2)
    outputs: list[int] = [1]
    came = threading.Condition()

    def inputs() -> Iterator[int]:
        for turn in range(20):
            with came:
                came.wait_for(lambda turn=turn: len(outputs) > turn)
            yield outputs[turn] * 2

    for value in work.echo.map(inputs()):
        with came:
            outputs.append(value)
            came.notify()
    assert outputs == [2**n for n in range(21)]


def test_results_come_while_the_input_blocks(site: Site) -> None:
    more = threading.Event()

    def inputs() -> Iterator[int]:
        yield 1
        yield 2
        more.wait()
        yield 3

    results = site.instance().echo.map(inputs())
    assert [next(results), next(results)] == [1, 2]
    more.set()
    assert list(results) == [3]


# --- failures -----------------------------------------------------------------------------------


def test_an_input_that_raises_ends_the_map_after_what_came_before(site: Site) -> None:
    def inputs() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the disk is gone")

    results = site.instance().echo.map(inputs())
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(results)


def test_an_exception_is_raised_when_it_is_its_turn(site: Site) -> None:
    results = site.instance(max_containers=2).halve.map([2, 4, 5, 6])
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(ValueError, match="5 is odd"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_exceptions_are_values_where_that_is_asked_for(site: Site) -> None:
    got = list(site.instance().halve.map([2, 3, 4], return_exceptions=True))
    assert got[0::2] == [1, 2]
    assert isinstance(got[1], ValueError)


def test_for_each_can_ignore_exceptions(site: Site) -> None:
    work = site.instance()
    work.halve.for_each([1, 2], ignore_exceptions=True)
    with pytest.raises(ValueError, match="1 is odd"):
        work.halve.for_each([1, 2])


def test_an_argument_that_cannot_travel_fails_its_own_input(site: Site) -> None:
    work = site.instance()
    got = list(work.echo.map([1, threading.Lock(), 3], return_exceptions=True))
    assert got[0::2] == [1, 3]
    assert isinstance(got[1], SerializationError)
    assert "argument 1" in str(got[1])


def test_a_container_that_dies_fails_only_the_input_it_was_running(site: Site) -> None:
    work = site.instance(max_containers=2)
    got = list(work.die.map(["once", *range(0)], return_exceptions=True))
    assert [type(value) for value in got] == [ContainerDied]
    again = list(work.die.map(["once", "once"], return_exceptions=True))
    assert again == ["once", "once"]


def test_what_was_sent_ahead_survives_the_death_of_its_container(site: Site) -> None:
    import os

    import lifecycle_magic as lm

    class Fragile:
        @lm.method()
        def check(self, number: int) -> int:
            if number % 100 == 50:
                os._exit(number)
            return number

    got = list(
        site.app.cls(Fragile, max_containers=2)().check.map(range(300), return_exceptions=True)
    )
    died = [number for number, value in enumerate(got) if isinstance(value, ContainerDied)]
    assert died == [50, 150, 250]
    assert all(value == number for number, value in enumerate(got) if number not in died)


def test_a_start_that_fails_ends_the_map_with_its_reason(site: Site) -> None:
    import lifecycle_magic as lm

    class Broken:
        @lm.enter()
        def load(self) -> None:
            raise FileNotFoundError("no weights")

        @lm.method()
        def use(self, x: int) -> int:
            return x

    with pytest.raises(FileNotFoundError, match="no weights"):
        list(site.app.cls(Broken, max_containers=2)().use.map(range(10)))


def test_a_map_goes_on_with_the_containers_that_do_start(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    import os

    import lifecycle_magic as lm

    class Exclusive:
        """Only one at a time can have the device."""

        def __init__(self, folder: str) -> None:
            self.folder = folder

        @lm.enter()
        def load(self) -> None:
            with open(f"{self.folder}/attempt.{os.urandom(4).hex()}", "x"):
                pass
            open(f"{self.folder}/device", "x").close()

        @lm.method()
        def use(self, x: int) -> int:
            import time

            time.sleep(0.01)
            return x

    work = site.instance(Exclusive, max_containers=2)
    assert list(work.use.map(range(100))) == list(range(100))
    assert site.folder.count("attempt") <= 1 + 3
    assert "another container did not start, 1 continue" in capsys.readouterr().err


# --- leaving early --------------------------------------------------------------------------------


def both_running(site: Site) -> list[str]:
    began = [one for one in "bcde" if site.folder.count(f"began-{one}")]
    return began if len(began) == 2 else []


def test_leaving_a_map_early_interrupts_what_runs_and_drops_the_rest(site: Site) -> None:
    work = site.instance(max_containers=2)
    site.go("a")
    for name in work.hold.map(["a", "b", "c", "d", "e"]):
        assert name == "a"
        running = wait_for(lambda: both_running(site), "an input in each container")
        break
    for one in running:
        site.folder.wait(f"interrupted-{one}")
    assert work.echo.remote(1) == 1  # the containers stay warm ...
    assert site.folder.count("enter") == 2
    began = {one for one in "bcde" if site.folder.count(f"began-{one}")}
    assert began == set(running)  # ... and nothing else began


def test_a_failure_cancels_the_rest(site: Site) -> None:
    from engine.work import Work

    import lifecycle_magic as lm

    class Mixed(Work):
        @lm.method()
        def either(self, name: str) -> Any:
            return self.fail("bad") if name == "bad" else self.hold(name)

    work = site.instance(Mixed, max_containers=2)
    with pytest.raises(LookupError, match="bad"):
        list(work.either.map(["bad", "good", "never"]))
    wait_for(
        lambda: site.folder.count("interrupted-good") == site.folder.count("began-good"),
        "what ran was interrupted",
    )
    assert work.echo.remote(1) == 1
    assert site.folder.count("enter") <= 2


def test_an_interrupt_ends_the_map_and_what_runs(site: Site) -> None:
    work = site.instance()
    work.echo.remote(0)

    def interrupt() -> None:
        site.folder.wait("began-a")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        list(work.hold.map(["a", "b"]))
    thread.join()
    site.folder.wait("interrupted-a")
    assert work.echo.remote(1) == 1
    assert site.folder.count("enter") == 1
    assert site.folder.count("began-b") == 0


def test_a_map_that_is_left_while_containers_start_leaves_nothing_waiting(site: Site) -> None:
    work = site.instance()
    results = work.echo.map(itertools.count())
    assert next(results) == 0
    results.close()
    assert work.echo.remote(5) == 5


# --- others beside it -----------------------------------------------------------------------------


def test_another_call_gets_its_turn_while_a_map_runs(site: Site) -> None:
    work = site.instance()
    results = work.echo.map(itertools.count())
    assert next(results) == 0
    assert work.echo.remote("between") == "between"
    assert next(results) == 1
    results.close()


def test_two_maps_share_the_containers(site: Site) -> None:
    work = site.instance(max_containers=2)
    pairs = zip(work.echo.map(range(300)), work.echo.map(range(300, 600)), strict=True)
    assert list(pairs) == list(zip(range(300), range(300, 600), strict=True))


def test_prints_of_a_map_appear_where_it_was_called(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.go("a", "b")
    list(site.instance().say.map(["a", "b"], progress=False))
    assert capsys.readouterr().out == "a begins\na ends\nb begins\nb ends\n"


# --- coroutines -----------------------------------------------------------------------------------


async def numbers(to: int) -> AsyncIterator[int]:
    for number in range(to):
        await asyncio.sleep(0)
        yield number


def test_map_aio_takes_plain_and_async_inputs(site: Site) -> None:
    work = site.instance()

    async def main() -> tuple[list[Any], list[Any], list[Any]]:
        plain = [value async for value in work.echo.map.aio(range(1500))]
        both = [value async for value in work.echo.map.aio(numbers(3), "abc")]
        star = [value async for value in work.echo.starmap.aio([(1, 2), (3, 4)])]
        await work.echo.for_each.aio(numbers(3))
        return plain, both, star

    plain, both, star = asyncio.run(main())
    assert plain == list(range(1500))
    assert both == [(0, "a"), (1, "b"), (2, "c")]
    assert star == [(1, 2), (3, 4)]


def test_map_aio_takes_more_async_inputs_than_a_window(site: Site) -> None:
    work = site.instance()

    async def main() -> int:
        return sum([value async for value in work.echo.map.aio(numbers(3 * WINDOW))])

    assert asyncio.run(main()) == sum(range(3 * WINDOW))


def test_map_aio_does_not_block_its_loop_while_a_plain_input_does(site: Site) -> None:
    work = site.instance()
    more = threading.Event()

    def inputs() -> Iterator[int]:
        yield 1
        more.wait()
        yield 2

    async def main() -> list[int]:
        got = []
        async for value in work.echo.map.aio(inputs()):
            got.append(value)
            more.set()
        return got

    assert asyncio.run(main()) == [1, 2]


def test_map_aio_raises_what_the_input_and_the_method_raise(site: Site) -> None:
    work = site.instance()

    async def bad() -> AsyncIterator[int]:
        yield 2
        raise OSError("the disk is gone")

    async def main() -> list[Any]:
        got: list[Any] = []

        async def read() -> None:
            async for value in work.halve.map.aio(bad()):
                got.append(value)

        with pytest.raises(OSError, match="the disk is gone"):
            await read()
        with pytest.raises(ValueError, match="3 is odd"):
            [value async for value in work.halve.map.aio([3])]
        return got

    assert asyncio.run(main()) == [1]


def test_cancelling_map_aio_interrupts_what_runs(site: Site) -> None:
    work = site.instance()

    async def main() -> None:
        task = asyncio.create_task(work.hold.for_each.aio(["a", "b"]))
        await asyncio.to_thread(site.folder.wait, "began-a")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    site.folder.wait("interrupted-a")
    assert work.echo.remote(1) == 1
    assert site.folder.count("enter") == 1


def test_the_plain_forms_work_while_this_thread_runs_an_event_loop(site: Site) -> None:
    """As in a notebook, whose cells run inside the kernel's loop."""
    work = site.instance(max_containers=2)

    async def cell() -> list[Any]:
        started = work.who_async.spawn()
        return [
            list(work.echo.map(range(3))),
            list(work.echo.starmap([(1, 2)])),
            list(work.count.remote_gen(2)),
            work.echo.remote(4),
            work.echo.spawn(5).get(),
            started.get() == await work.who_async.remote() or site.folder.count("enter") == 2,
        ]

    assert asyncio.run(cell()) == [[0, 1, 2], [(1, 2)], [0, 1], 4, 5, True]


# --- the progress bar -----------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run_long_enough(site: Site, **options: Any) -> str:
    """What a map writes to the terminal that takes longer than the bar waits to appear."""
    import tqdm.std  # noqa: F401  # on a busy machine it takes longer than the map

    terminal = Terminal()
    before, sys.stderr = sys.stderr, terminal
    try:
        work = site.instance()
        work.who.remote()  # the time that its container takes is not the map's

        def let_go() -> None:
            site.folder.wait("began-b")  # the bar counts its half second by then
            threading.Timer(0.8, lambda: site.go("b")).start()

        threading.Thread(target=let_go).start()
        site.go("a")
        list(work.hold.map(["a", "b"], **options))
    finally:
        sys.stderr = before
    return terminal.getvalue()


def test_a_map_over_a_known_number_shows_a_bar_in_a_terminal(site: Site) -> None:
    told = run_long_enough(site)
    assert "Work().hold" in told
    assert "2/2" in told


def test_the_bar_can_be_turned_off(site: Site) -> None:
    assert run_long_enough(site, progress=False) == ""


def test_there_is_no_bar_where_nobody_looks(
    site: Site, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    site.go("a", "b")
    with (tmp_path / "log").open("w") as log:
        before, sys.stderr = sys.stderr, log
        try:
            list(site.instance().hold.map(["a", "b"]))
        finally:
            sys.stderr = before
    assert (tmp_path / "log").read_text() == ""


def test_the_bar_leaves_the_users_own_bars_as_they_are(site: Site) -> None:
    from tqdm import tqdm

    before = tqdm.monitor_interval
    list(site.instance().echo.map([1, 2]))
    assert tqdm.monitor_interval == before
