"""``spawn``, ``FunctionCall``, ``gather``, ``async def`` methods and ``.aio``."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import pytest
from engine.work import Folder, Site, wait_for

import lifecycle_magic as lm
from lifecycle_magic.exception import InputCancelled, SerializationError

pytestmark = pytest.mark.process


def test_spawn_returns_at_once_and_get_waits(site: Site) -> None:
    work = site.instance()
    call = work.hold.spawn("a")
    site.folder.wait("began-a")
    assert not call.done()
    site.go("a")
    assert call.get() == "a"
    assert call.done()


def test_get_gives_up_after_its_timeout_and_the_call_goes_on(site: Site) -> None:
    call = site.instance().hold.spawn("a")
    with pytest.raises(TimeoutError, match=r"Work\(\)\.hold has not returned within 0\.05 s"):
        call.get(timeout=0.05)
    site.go("a")
    assert call.get(timeout=60) == "a"


def test_get_raises_what_the_method_raised_each_time(site: Site) -> None:
    call = site.instance().fail.spawn("no such thing")
    for _ in range(2):
        with pytest.raises(LookupError, match="no such thing"):
            call.get()


def test_a_timeout_error_of_the_method_is_no_timeout_of_get(site: Site) -> None:
    class Slow:
        @lm.method()
        def ask(self) -> None:
            raise TimeoutError("the database did not answer")

    with pytest.raises(TimeoutError, match="the database did not answer"):
        site.app.cls(Slow)().ask.spawn().get(timeout=60)


def test_cancel_interrupts_the_method_and_spares_the_container(site: Site) -> None:
    work = site.instance()
    before = work.who.remote()
    call = work.hold.spawn("a")
    site.folder.wait("began-a")
    call.cancel()
    with pytest.raises(InputCancelled, match="was cancelled"):
        call.get()
    site.folder.wait("interrupted-a")
    assert work.who.remote() == before


def test_cancel_takes_a_call_out_of_the_queue(site: Site) -> None:
    work = site.instance()
    first, second, third = (work.hold.spawn(name) for name in "abc")
    site.folder.wait("began-a")
    second.cancel()
    site.go("a", "c")
    assert (first.get(), third.get()) == ("a", "c")
    assert site.folder.count("began-b") == 0


def test_cancelling_what_is_over_changes_nothing(site: Site) -> None:
    call = site.instance().echo.spawn(3)
    assert call.get() == 3
    call.cancel()
    assert call.get() == 3


def test_interrupting_the_wait_interrupts_the_method(site: Site) -> None:
    work = site.instance()
    call = work.hold.spawn("a")

    def interrupt() -> None:
        site.folder.wait("began-a")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        call.get()
    thread.join()
    site.folder.wait("interrupted-a")


def test_gather_returns_the_values_in_order(site: Site) -> None:
    work = site.instance(max_containers=2)
    calls = [work.hold.spawn(name) for name in "ab"]
    site.go("b", "a")
    assert lm.FunctionCall.gather(*calls) == ["a", "b"]


def test_gather_raises_the_first_exception_and_cancels_the_others(site: Site) -> None:
    work = site.instance(max_containers=2)
    waiting = work.hold.spawn("a")
    site.folder.wait("began-a")
    with pytest.raises(LookupError, match="bad"):
        lm.gather(waiting, work.fail.spawn("bad"))
    site.folder.wait("interrupted-a")


def test_an_async_method_gives_a_call_to_await_or_to_get(site: Site) -> None:
    work = site.instance()
    site.go("a", "b")
    assert work.hold_async.remote("a") == "a"

    async def main() -> Any:
        return await work.hold_async.remote("b")

    assert asyncio.run(main()) == "b"


def test_aio_awaits_methods_of_both_kinds(site: Site) -> None:
    work = site.instance()
    site.go("a", "b")

    async def main() -> list[Any]:
        return [await work.hold.remote.aio("a"), await work.hold_async.remote.aio("b")]

    assert asyncio.run(main()) == ["a", "b"]


def test_many_awaited_calls_share_the_containers(site: Site) -> None:
    work = site.instance(max_containers=2)

    async def main() -> list[Any]:
        return await asyncio.gather(*(work.echo.remote.aio(n) for n in range(200)))

    assert asyncio.run(main()) == list(range(200))
    assert site.folder.count("enter") <= 2


def test_cancelling_a_task_interrupts_its_method(site: Site) -> None:
    work = site.instance()
    before = work.who.remote()

    async def main() -> None:
        task = asyncio.create_task(work.hold.remote.aio("a"))
        await asyncio.to_thread(site.folder.wait, "began-a")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    site.folder.wait("interrupted-a")
    assert work.who.remote() == before


def test_a_call_that_outlives_its_event_loop_gives_its_slot_back(site: Site) -> None:
    work = site.instance()

    async def main() -> None:
        asyncio.get_running_loop().create_task(work.hold.remote.aio("a"))
        await asyncio.to_thread(site.folder.wait, "began-a")

    asyncio.run(main())  # cancels the task, and closes the loop before the reply comes
    assert work.echo.remote(1) == 1
    assert site.folder.count("enter") == 1


def test_a_coroutine_that_takes_long_to_be_cancelled_is_waited_for(site: Site) -> None:
    class Tidy:
        def __init__(self, path: str) -> None:
            self.folder = Folder(path)

        @lm.method()
        async def work(self) -> None:
            try:
                self.folder.note("began")
                await asyncio.sleep(600)
            finally:
                await asyncio.sleep(0.05)
                self.folder.note("tidied up")

        @lm.method()
        def hello(self) -> str:
            return "hello"

    tidy = site.instance(Tidy)
    call = tidy.work.spawn()
    site.folder.wait("began")
    call.cancel()
    assert tidy.hello.remote() == "hello"
    assert site.folder.count("tidied up") == 1


def test_the_async_twins_of_what_a_call_can_do(site: Site) -> None:
    work = site.instance()

    async def main() -> Any:
        call = await work.hold.spawn.aio("a")
        site.go("a")
        return await call.get.aio()

    assert asyncio.run(main()) == "a"


def test_a_result_that_cannot_travel_is_named_and_spares_the_container(site: Site) -> None:
    work = site.instance()
    before = work.who.remote()
    with pytest.raises(SerializationError, match="unpicklable returned a lock"):
        work.unpicklable.spawn().get()
    assert work.who.remote() == before


def test_prints_of_a_spawned_call_appear_while_somebody_else_is_served(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    work = site.instance(max_containers=2)
    call = work.say.spawn("a")
    told = ""

    def heard() -> bool:
        nonlocal told
        told += capsys.readouterr().out
        return "a begins" in told

    wait_for(heard, "what the call printed")
    site.go("a")
    call.get()
