"""Which hook runs when: one life of a class with hooks of every kind, told by the class itself.

The container is expensive and the questions are many, so each engine runs the life once, and
every test reads the same record of it. The class writes what it sees into a folder that it shares
with the host: that way its ``exit`` hooks tell as much as its methods.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import lifecycle_magic as lm
from lifecycle_magic.lifecycle.history import HistoryEntry
from lifecycle_magic.lifecycle.states import Notice
from lifecycle_magic.session import session

pytestmark = pytest.mark.xdist_group("hooks-order")

SYNC_CALLS = 100


class Base:
    def __init__(self, journal: str) -> None:
        self.journal = journal

    def tell(self, hook: str) -> None:
        import asyncio
        import json
        import threading

        try:
            loop = id(asyncio.get_running_loop())
        except RuntimeError:
            loop = None
        told = {
            "hook": hook,
            "instance": id(self),
            "thread": threading.get_native_id(),
            "main": threading.current_thread() is threading.main_thread(),
            "loop": loop,
        }
        with open(self.journal, "a") as file:
            file.write(json.dumps(told) + "\n")

    @lm.enter()
    def base_first(self) -> None:
        self.tell("enter base_first")

    @lm.enter()
    async def base_second(self) -> None:
        self.tell("enter base_second")

    @lm.enter()
    def overridden(self) -> None:
        self.tell("enter overridden in Base")

    @lm.enter()
    def base_last(self) -> None:
        self.tell("enter base_last")

    @lm.exit()
    def base_close(self) -> None:
        self.tell("exit base_close")

    @lm.exit()
    async def base_close_async(self) -> None:
        self.tell("exit base_close_async")


class Derived(Base):
    @lm.enter()
    async def derived_first(self) -> None:
        self.tell("enter derived_first")

    def overridden(self) -> None:
        self.tell("enter overridden in Derived")

    @lm.enter()
    def derived_second(self) -> None:
        self.tell("enter derived_second")

    @lm.method()
    def count(self, number: int) -> int:
        self.tell("count")
        return number + 1

    @lm.method()
    async def wait(self) -> str:
        import asyncio

        await asyncio.sleep(0)
        self.tell("wait")
        return "waited"

    @lm.exit()
    def derived_broken(self) -> None:
        self.tell("exit derived_broken")
        raise ValueError("the shutter is stuck")

    @lm.exit()
    async def derived_broken_async(self) -> None:
        self.tell("exit derived_broken_async")
        sys.exit(3)

    @lm.exit()
    def derived_last(self) -> None:
        self.tell("exit derived_last")


ENTER = [
    "enter base_first",
    "enter base_second",
    "enter overridden in Derived",
    "enter base_last",
    "enter derived_first",
    "enter derived_second",
]
EXIT = [
    "exit base_close",
    "exit base_close_async",
    "exit derived_broken",
    "exit derived_broken_async",
    "exit derived_last",
]


@dataclass(frozen=True)
class Told:
    """What one hook or method saw; ``loop`` is the id of the running event loop, or None."""

    hook: str
    instance: int
    thread: int
    main: bool
    loop: int | None


@dataclass(frozen=True)
class Life:
    """One container from ``enter`` to ``exit``."""

    values: list[int]
    waited: list[str]
    told: list[Told]
    notices: list[str]
    entry: HistoryEntry

    def names(self, start: str) -> list[str]:
        return [one.hook for one in self.told if one.hook.startswith(start)]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("process", marks=pytest.mark.process),
    ],
)
def life(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Life:
    """The life of a `Derived` that answered a hundred sync calls and two async ones."""
    engine = request.param
    if engine == "docker":
        request.getfixturevalue("need_docker")
    # At its own path: that is where a volume can be mounted on every engine.
    folder = tmp_path_factory.mktemp("journal")
    journal = folder / "journal"
    app = lm.App(
        f"hooks-order-{engine}",
        engine=engine,
        volumes={str(folder): lm.Volume.from_path(folder)},
    )
    handle = app.cls(Derived)
    notices: list[str] = []

    def note(event: object) -> None:
        if isinstance(event, Notice):
            notices.append(event.text)

    unsubscribe = session.current().bus.subscribe(note)
    try:
        with app.run():
            derived = handle(str(journal))
            values = [derived.count.remote(number) for number in range(SYNC_CALLS)]
            waited = [derived.wait.spawn().get(timeout=60) for _ in range(2)]
    finally:
        unsubscribe()
    (entry,) = [
        entry
        for entry in session.current().history.entries()
        if (entry.session, entry.cls, entry.engine)
        == (session.current().id, Derived.__name__, engine)
    ]
    return Life(values, waited, _read(journal), notices, entry)


def _read(journal: Path) -> list[Told]:
    return [Told(**json.loads(line)) for line in journal.read_text().splitlines()]


def test_every_call_is_answered(life: Life) -> None:
    assert life.values == [number + 1 for number in range(SYNC_CALLS)]
    assert life.waited == ["waited", "waited"]


def test_enter_runs_base_first_then_as_written_and_an_override_keeps_its_slot(life: Life) -> None:
    assert life.names("enter") == ENTER


def test_exit_runs_base_first_then_as_written(life: Life) -> None:
    assert life.names("exit") == EXIT


def test_enter_comes_before_every_call_and_exit_after(life: Life) -> None:
    calls = ["count"] * SYNC_CALLS + ["wait"] * 2
    assert [one.hook for one in life.told] == ENTER + calls + EXIT


def test_everything_runs_on_the_containers_main_thread(life: Life) -> None:
    assert len({one.thread for one in life.told}) == 1
    assert all(one.main for one in life.told)


def test_async_hooks_and_methods_share_one_event_loop(life: Life) -> None:
    asynchronous = {
        "enter base_second",
        "enter derived_first",
        "wait",
        "exit base_close_async",
        "exit derived_broken_async",
    }
    assert {one.hook for one in life.told if one.loop is not None} == asynchronous
    assert len({one.loop for one in life.told if one.loop is not None}) == 1


def test_one_instance_is_shared_by_hooks_and_methods(life: Life) -> None:
    assert len({one.instance for one in life.told}) == 1


def test_exit_hooks_that_raise_are_reported_and_the_others_run(life: Life) -> None:
    errors = {hook.hook: hook.error for hook in life.entry.hooks}
    assert list(errors) == [name.removeprefix("exit ") for name in EXIT]
    broken, broken_async = errors.pop("derived_broken"), errors.pop("derived_broken_async")
    assert broken is not None
    assert "ValueError: the shutter is stuck" in broken
    assert broken_async is not None
    assert "SystemExit: 3" in broken_async
    assert set(errors.values()) == {None}
    for name, text in (("derived_broken", broken), ("derived_broken_async", broken_async)):
        assert any(name in notice and text in notice for notice in life.notices)


def test_the_history_says_that_it_exited_and_which_hooks_raised(life: Life) -> None:
    assert life.entry.state == "exited"
    assert "app.stop()" in life.entry.why
    assert "derived_broken, derived_broken_async raised" in life.entry.why
