"""Calls from inside containers: ``.remote()`` of handles that a method refers to or is given."""

from __future__ import annotations

import os
import queue
import sys
import traceback
from types import SimpleNamespace
from typing import Any

import pytest
from engine import nested
from engine.work import Site

import lifecycle_magic as lm
from lifecycle_magic.exception import ContainerDied
from lifecycle_magic.session import session


@pytest.fixture
def classes(site_on_each: Site) -> SimpleNamespace:
    return nested.declare(site_on_each.app, site_on_each.folder.path)


def test_handles_are_called_as_globals_closures_and_attributes(classes: SimpleNamespace) -> None:
    outer = classes.Outer(classes.Inner(7))
    assert outer.through.remote(1) == [2, 1, 3, 5, 7]
    assert outer.through.remote(2) == [4, 2, 6, 10, 14]


def test_handles_travel_as_arguments_and_results(classes: SimpleNamespace) -> None:
    outer = classes.Outer()
    assert outer.given.remote(classes.Inner(4), "times", 2) == 8
    made = outer.make.remote(6)
    assert isinstance(made, classes.Inner)
    assert made.times.remote(2) == 12
    assert outer.pick.remote().remote(4) == 8


def test_an_exception_arrives_with_the_frames_of_both_containers(classes: SimpleNamespace) -> None:
    with pytest.raises(LookupError, match="no such thing") as caught:
        classes.Outer().call.remote("fail", "no such thing")
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-2:] == ["call", "fail"]


def test_output_of_the_inner_method_reaches_the_caller(
    classes: SimpleNamespace, capsys: Any
) -> None:
    assert classes.Outer().call.remote("say", "hello") == "hello"
    assert "inner hello" in capsys.readouterr().out


def test_lines_stay_in_order_around_a_nested_call(site: Site, capsys: Any) -> None:
    app = site.app

    @app.function()
    def inner() -> None:
        print("inner")

    @app.function()
    def outer() -> None:
        for number in range(20):
            print("before", number)
            print("until", number, end="\n" if number % 2 else " ")
            inner.remote()

    outer.remote()
    expected = [
        word
        for number in range(20)
        for word in ("before", str(number), "until", str(number), "inner")
    ]
    assert capsys.readouterr().out.split() == expected


def test_a_dead_inner_container_is_the_exception_of_the_outer_call(
    classes: SimpleNamespace,
) -> None:
    outer = classes.Outer()
    with pytest.raises(ContainerDied, match="Inner"):
        outer.call.remote("die")
    assert outer.call.remote("times", 2) == 10


def test_a_forked_child_has_a_connection_of_its_own(classes: SimpleNamespace) -> None:
    assert classes.Outer().in_child.remote(1) == [5, 10, 5]


def test_large_values_cross(classes: SimpleNamespace) -> None:
    outer = classes.Outer()
    for size in (10, 1 << 12, 1 << 20):
        back = outer.call.remote("times", bytes(size))
        assert back == bytes(5 * size)


def test_a_method_calls_its_own_class(site_on_each: Site) -> None:
    class Own:
        @lm.method()
        def sum(self, numbers: list[int]) -> int:
            if len(numbers) == 1:
                return numbers[0]
            half = len(numbers) // 2
            return sum(self.sum.map([numbers[:half], numbers[half:]]))

    own = site_on_each.app.cls(Own, max_containers=4)()
    assert own.sum.remote([1, 2, 3]) == 6


def test_a_function_calls_itself_and_itself_with_other_options(site_on_each: Site) -> None:
    @site_on_each.app.function(max_containers=3)
    def factorial(n: int) -> int:
        if n < 2:
            return 1
        return n * (factorial(n - 1) if n > 3 else factorial.remote(n - 1))

    @site_on_each.app.function()
    def stage(number: int) -> list[int]:
        if number == 3:
            return [number]
        return [*stage.local(3), number, *stages[number + 1].remote(number + 1)]

    stages = [stage.with_options(timeout=60 + number) for number in range(4)]
    assert factorial.remote(4) == 24
    assert stages[1].remote(1) == [3, 1, 3, 2, 3]


def test_a_class_with_other_options_has_containers_of_its_own_inside_too(
    site_on_each: Site,
) -> None:
    class Own:
        @lm.method()
        def who(self) -> str:
            return os.environ["MODAL_TASK_ID"]

        @lm.method()
        def others(self) -> list[bool]:
            found = [one().who.remote() == self.who() for one in kinds[1:]]
            return [kinds[0] is type(self), isinstance(self, kinds[1]), *found]

    own: Any = site_on_each.app.cls(Own)
    kinds = [own, own.with_options(timeout=60)]
    assert own().others.remote() == [True, True, False]


def test_the_exception_of_a_spawned_call_that_nobody_keeps_is_printed(
    site_on_each: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=printed.put, flush=lambda: None))

    @site_on_each.app.function()
    def fail(what: str) -> None:
        raise LookupError(what)

    kept = fail.spawn("asked for")
    fail.spawn("dropped")
    fail.spawn_map(["dropped too"])
    with pytest.raises(LookupError, match="asked for"):
        kept.get()
    texts = sorted(printed.get(timeout=60) for _ in range(2))
    start = "fail, which .spawn() started, raised an exception:"
    assert [text.startswith(start) for text in texts] == [True, True]
    assert [text.splitlines()[-1] for text in texts] == [
        "LookupError: dropped",
        "LookupError: dropped too",
    ]


def test_a_class_that_was_declared_again_is_called_as_it_is_now(site_on_each: Site) -> None:
    app = site_on_each.app

    class Called:
        @lm.method()
        def version(self) -> int:
            return 1

    handle = app.cls(Called)()

    class Caller:
        @lm.method()
        def ask(self) -> int:
            return handle.version.remote()

    caller = app.cls(Caller)()
    assert caller.ask.remote() == 1

    def again() -> None:
        class Called:
            @lm.method()
            def version(self) -> int:
                return 2

        app.cls(Called)

    again()
    assert caller.ask.remote() == 2


def test_a_start_that_outlives_its_session_opens_no_socket(site_on_each: Site) -> None:
    ours = session.current()
    work = site_on_each.instance()
    assert work.echo.remote(1) == 1
    [container] = ours.containers()
    calls, engine = ours.container_calls, container.engine
    assert calls.invite(engine, "Model") is not None
    calls.close()
    assert calls.invite(engine, "Model") is None
    assert not calls._listeners
