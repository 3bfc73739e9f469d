"""``remote_gen``: items as they are yielded, and every way in which it can end."""

from __future__ import annotations

import asyncio
import itertools
import signal
import threading
from typing import Any

import pytest
from engine.work import Site, time_limit

from lifecycle_magic.exception import ContainerDied, MethodTimeout, SerializationError

pytestmark = pytest.mark.process


def interrupt_when(site: Site, event: str) -> threading.Thread:
    """Send this process a SIGINT, as Ctrl-C does, once ``event`` was noted."""

    def run() -> None:
        site.folder.wait(event)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("method", ["steps", "steps_async"])
def test_each_item_arrives_before_the_next_one_is_made(site: Site, method: str) -> None:
    items = getattr(site.instance(), method).remote_gen("a", 3)
    got = []
    for number in range(3):
        site.go("a")  # the generator makes one item for each of these
        got.append(next(items))
        assert number == got[-1]
    assert list(items) == []


def test_it_begins_with_the_first_next_and_takes_nothing_before(site: Site) -> None:
    work = site.instance()
    waiting = work.steps.remote_gen("a", 1)
    assert work.echo.remote(1) == 1
    assert site.folder.count("step-a") == 0
    site.go("a")
    assert list(waiting) == [0]


def test_async_for_gets_the_same_items(site: Site) -> None:
    work = site.instance()

    async def main() -> list[int]:
        return [item async for item in work.count.remote_gen.aio(5)]

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]


def test_as_many_items_as_one_wants(site: Site) -> None:
    assert sum(1 for _ in site.instance().count.remote_gen(20_000)) == 20_000


@pytest.mark.parametrize("method", ["steps", "steps_async"])
def test_leaving_early_closes_the_generator_there_and_spares_the_container(
    site: Site, method: str
) -> None:
    work = site.instance()
    before = work.who.remote()
    site.go("a", "a")
    for item in getattr(work, method).remote_gen("a"):
        if item == 1:
            site.go("a")  # it may be waiting to make the next one
            break
    assert work.who.remote() == before
    assert site.folder.count("finally-a") == 1


def test_leaving_an_endless_generator_that_is_far_ahead(site: Site) -> None:
    work = site.instance()
    before = work.who.remote()
    assert list(itertools.islice(work.endless.remote_gen("a"), 3)) == [0, 1, 2]
    assert work.who.remote() == before
    assert site.folder.count("finally-a") == 1


def test_breaking_out_of_async_for_does_the_same(site: Site) -> None:
    work = site.instance()
    before = work.who.remote()

    async def main() -> None:
        items = work.endless.remote_gen.aio("a")
        async for item in items:
            if item == 2:
                break
        await items.aclose()

    asyncio.run(main())
    assert work.who.remote() == before
    assert site.folder.count("finally-a") == 1


def test_cancelling_a_task_that_waits_for_an_item_closes_the_generator(site: Site) -> None:
    work = site.instance()
    before = work.who.remote()

    async def main() -> None:
        async def read() -> None:
            async for _ in work.steps.remote_gen.aio("a"):
                pass

        task = asyncio.create_task(read())
        await asyncio.to_thread(site.folder.wait, "step-a")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert work.who.remote() == before  # it was not at a yield: after a hint it is interrupted
    assert site.folder.count("finally-a") == 1


def test_a_failure_comes_after_the_items_before_it(site: Site) -> None:
    work = site.instance()
    before = work.who.remote()
    got: list[Any] = []
    with pytest.raises(LookupError, match="after 3"):
        got.extend(work.count.remote_gen(3, fail=True))
    assert got == [0, 1, 2]
    assert work.who.remote() == before


def test_a_failure_reaches_async_for_after_the_items_before_it(site: Site) -> None:
    work = site.instance()
    got = []

    async def main() -> None:
        async for item in work.count.remote_gen.aio(2, fail=True):
            got.append(item)

    with pytest.raises(LookupError, match="after 2"):
        asyncio.run(main())
    assert got == [0, 1]


def test_an_item_that_cannot_travel_is_named(site: Site) -> None:
    items = site.instance().yields_what_cannot_travel.remote_gen()
    assert next(items) == 1
    with pytest.raises(SerializationError, match="yields_what_cannot_travel yielded a lock"):
        next(items)


@pytest.mark.parametrize("method", ["steps", "steps_async"])
def test_an_interrupt_while_waiting_for_an_item_ends_it_and_spares_the_container(
    site: Site, method: str
) -> None:
    work = site.instance()
    before = work.who.remote()
    items = getattr(work, method).remote_gen("a")
    thread = interrupt_when(site, "step-a")
    with pytest.raises(KeyboardInterrupt):
        next(items)
    thread.join()
    assert work.who.remote() == before
    assert site.folder.count("finally-a") == 1


def test_a_generator_that_comes_to_no_next_yield_is_interrupted(site: Site) -> None:
    work = site.instance()
    before = work.who.remote()
    site.go("a")
    items = work.steps.remote_gen("a")
    next(items)
    site.folder.wait("step-a", 2)  # it works on the second item, for ever
    items.close()
    assert work.who.remote() == before
    assert site.folder.count("interrupted-a") == 1


@pytest.mark.slow
def test_a_generator_that_ignores_that_too_loses_its_container(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    work = site.instance()
    before = work.who.remote()
    items = work.deaf_steps.remote_gen("a")
    next(items)
    site.folder.wait("deaf-a")
    items.close()
    assert work.who.remote() != before
    assert site.folder.count("deaf-a") > 1  # it was interrupted first
    assert "did not stop" in capfd.readouterr().err


def test_two_generators_queue_up_at_a_container_that_takes_one_input(site: Site) -> None:
    work = site.instance()
    first = work.count.remote_gen(3)
    assert next(first) == 0
    second: list[int] = []
    thread = threading.Thread(target=lambda: second.extend(work.count.remote_gen(2)))
    thread.start()
    assert list(first) == [1, 2]
    thread.join()
    assert second == [0, 1]
    assert site.folder.count("enter") == 1


def test_two_generators_at_once_where_a_container_takes_two(site: Site) -> None:
    from engine.work import Work

    import lifecycle_magic as lm

    class Twice(Work):
        pass

    work = site.instance(lm.concurrent(max_inputs=2)(Twice))
    one, two = work.count.remote_gen(3), work.count.remote_gen(3)
    assert [next(one), next(two), next(one), next(two)] == [0, 0, 1, 1]
    assert [*one, *two] == [2, 2]
    assert site.folder.count("enter") == 1


def test_a_generator_that_takes_too_long_is_interrupted_after_its_items(site: Site) -> None:
    work = site.instance()
    before = work.who.remote()
    site.go("a")
    got: list[Any] = []
    with time_limit(work.who, 2), pytest.raises(MethodTimeout, match="timeout=2 s"):
        got.extend(work.steps.remote_gen("a"))
    assert got == [0]
    assert work.who.remote() == before


def test_a_container_that_dies_delivers_the_items_that_came_before(site: Site) -> None:
    import os

    import lifecycle_magic as lm

    class Dies:
        @lm.method()
        def numbers(self) -> Any:
            yield 1
            yield 2
            os._exit(4)

    got: list[Any] = []
    with pytest.raises(ContainerDied, match="exit code 4"):
        got.extend(site.app.cls(Dies)().numbers.remote_gen())
    assert got == [1, 2]


def test_a_dropped_generator_gives_its_slot_back(site: Site) -> None:
    work = site.instance()
    items = work.endless.remote_gen("a")
    next(items)
    del items
    assert work.echo.remote(1) == 1
    assert site.folder.count("finally-a") == 1


def test_what_a_generator_prints_appears_between_its_items(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    import lifecycle_magic as lm

    class Talks:
        @lm.method()
        def count(self) -> Any:
            for number in range(2):
                print("making", number)
                yield number

    for item in site.app.cls(Talks)().count.remote_gen():
        print("got", item)
    told = capsys.readouterr().out.split("\n")
    assert told.index("making 0") < told.index("got 0")
    assert told.index("making 1") < told.index("got 1")


def test_local_runs_the_generator_here(site: Site) -> None:
    assert list(site.instance().count.local(3)) == [0, 1, 2]
