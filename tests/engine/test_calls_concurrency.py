"""``@concurrent``: several inputs in one container, each with its own prints and interrupts."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import io
import sys
import threading
from typing import Any

import pytest
from engine.work import Site, Work, wait_for

import lifecycle_magic as lm
from lifecycle_magic.exception import ContainerDied, InputCancelled

pytestmark = pytest.mark.process


@lm.concurrent(max_inputs=4)
class Many(Work):
    @lm.method()
    def where(self, name: str) -> tuple[int, bool]:
        self.hold(name)
        on_main = threading.current_thread() is threading.main_thread()
        return threading.get_native_id(), on_main

    @lm.method()
    async def where_async(self, name: str) -> tuple[int, bool, int]:
        await self.hold_async(name)
        on_main = threading.current_thread() is threading.main_thread()
        return threading.get_native_id(), on_main, id(asyncio.get_running_loop())

    @lm.method()
    async def say_async(self, name: str) -> None:
        print(f"{name} begins")
        await self.hold_async(name)
        print(f"{name} ends")

    @lm.method()
    def spin(self, name: str) -> None:
        """Runs on without ever waiting for anything."""
        try:
            self.folder.note(f"began-{name}")
            while True:
                pass
        except KeyboardInterrupt:
            self.folder.note(f"interrupted-{name}")
            raise


def test_sync_methods_run_at_once_on_threads(site: Site) -> None:
    work = site.instance(Many)
    calls = [work.where.spawn(name) for name in "abcd"]
    for name in "abcd":
        site.folder.wait(f"began-{name}")  # all of them, before any may end
    site.go(*"abcd")
    places = lm.gather(*calls)
    assert len({thread for thread, _ in places}) == 4
    assert not any(on_main for _, on_main in places)
    assert site.folder.count("enter") == 1


def test_async_methods_run_at_once_on_the_one_event_loop(site: Site) -> None:
    work = site.instance(Many)
    calls = [work.where_async.spawn(name) for name in "abcd"]
    for name in "abcd":
        site.folder.wait(f"began-{name}")
    site.go(*"abcd")
    places = lm.gather(*calls)
    assert len(set(places)) == 1
    assert places[0][1]  # on the main thread


def test_no_more_than_max_inputs_run_at_once(site: Site) -> None:
    work = site.instance(Many)
    calls = [work.hold.spawn(name) for name in "abcde"]
    for name in "abcd":
        site.folder.wait(f"began-{name}")
    assert site.folder.count("began-e") == 0
    site.go("a", "e")
    assert calls[4].get() == "e"
    site.go("b", "c", "d")
    lm.gather(*calls)


@pytest.mark.parametrize("method", ["say", "say_async"])
def test_what_two_calls_print_at_once_goes_to_the_cell_of_each(
    site: Site, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """A cell is known by its context, as in ipykernel."""
    cell: contextvars.ContextVar[io.StringIO] = contextvars.ContextVar("cell")

    class ByCell:
        def write(self, text: str) -> int:
            return cell.get().write(text)

        def flush(self) -> None:
            pass

    work = site.instance(Many)
    work.echo.remote(0)
    cells = {name: io.StringIO() for name in "ab"}
    calls = {}
    with contextlib.redirect_stdout(ByCell()):  # type: ignore[type-var]
        for name, output in cells.items():
            context = contextvars.copy_context()
            context.run(cell.set, output)
            calls[name] = context.run(getattr(work, method).spawn, name)
        for name in "ab":
            site.folder.wait(f"began-{name}")
        site.go("b", "a")
        for call in calls.values():
            call.get()
    assert {name: output.getvalue() for name, output in cells.items()} == {
        "a": "a begins\na ends\n",
        "b": "b begins\nb ends\n",
    }


@pytest.mark.parametrize("method", ["hold", "hold_async", "spin"])
def test_cancelling_one_of_several_calls_hits_that_one_alone(site: Site, method: str) -> None:
    work = site.instance(Many)
    spared = work.hold.spawn("spared")
    hit = getattr(work, method).spawn("hit")
    site.folder.wait("began-spared")
    site.folder.wait("began-hit")
    hit.cancel()
    site.folder.wait("interrupted-hit")
    site.go("spared")
    assert spared.get() == "spared"
    with pytest.raises(InputCancelled):
        hit.get()
    assert work.echo.remote(1) == 1
    assert site.folder.count("enter") == 1


@pytest.mark.slow
def test_a_method_that_ignores_its_cancellation_costs_its_container_and_no_other(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = io.StringIO()  # what is read from capfd while somebody writes may be lost
    monkeypatch.setattr(sys, "stderr", cell)
    work = site.instance(max_containers=2)
    neighbour = work.hold.spawn("neighbour")
    site.folder.wait("began-neighbour")
    deaf = work.deaf.spawn("deaf")
    site.folder.wait("began-deaf")
    deaf.cancel()
    wait_for(lambda: "did not stop within 5 s" in cell.getvalue(), "the cell is told")
    site.folder.wait("heard-deaf")
    site.go("neighbour")
    assert neighbour.get() == "neighbour"
    assert work.echo.remote(1) == 1


def test_a_death_takes_all_that_ran_in_that_container(site: Site) -> None:
    work = site.instance(Many)
    other = work.hold.spawn("a")
    site.folder.wait("began-a")
    with pytest.raises(ContainerDied, match="exit code 3"):
        work.die.remote()
    with pytest.raises(ContainerDied, match="exit code 3"):
        other.get()
    assert work.echo.remote(1) == 1


def test_a_map_fills_every_place_of_the_container(site: Site) -> None:
    work = site.instance(Many)
    names = [f"n{n}" for n in range(6)]

    def let_go() -> None:
        began = [f"began-{name}" for name in names]
        wait_for(lambda: sum(map(site.folder.count, began)) == 4, "four at once")
        site.go(*names)

    thread = threading.Thread(target=let_go)
    thread.start()
    assert list(work.hold.map(names)) == names
    thread.join()
    assert site.folder.count("enter") == 1


def test_new_code_reaches_a_container_when_the_calls_that_began_before_are_over(
    site: Site,
) -> None:

    def declare(answer: str) -> Any:
        @lm.concurrent(max_inputs=2)
        class Service(Work):
            @lm.method()
            def answer(self) -> str:
                return answer

        return site.instance(Service)

    before = declare("old")
    assert before.answer.remote() == "old"
    running = before.hold.spawn("a")
    site.folder.wait("began-a")
    after = declare("new")
    waiting = after.answer.spawn()  # there is a place for it, but with the code of before
    site.go("a")
    assert running.get() == "a"
    assert waiting.get() == "new"
    assert site.folder.count("enter") == 1


def test_a_thread_of_the_users_own_prints_into_the_log(site: Site) -> None:
    class Loud(Many):
        @lm.method()
        def start(self) -> None:
            thread = threading.Thread(target=lambda: print("from a thread", file=sys.stdout))
            thread.start()
            thread.join()

    from lifecycle_magic.session import session

    work = site.instance(lm.concurrent(max_inputs=2)(Loud))
    work.start.remote()
    wait_for(
        lambda: "from a thread" in session.current().logs(f"{site.app.name}/Loud"),
        "it is in the log",
    )
