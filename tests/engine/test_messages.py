"""Errors that name the cause, the path to it and the fix, on both engines."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from engine.work import Site

import lifecycle_magic as lm
from lifecycle_magic.exception import InvalidError, SerializationError

LOCK = "is a _thread.lock, which can't be pickled. Fix: "


def locked() -> dict[str, list[Any]]:
    return {"k": [threading.Lock()]}


def deep() -> list[Any]:
    made: list[Any] = []
    for _ in range(5000):
        made = [made]
    return made


def declare(app: lm.App) -> Any:
    @app.cls()
    class Taker:
        def __init__(self, a: Any = None, *, b: Any = None) -> None:
            self.a = a

        @lm.method()
        def take(self, x: Any = None) -> str:
            return "taken"

        @lm.method()
        def returns_lock(self) -> Any:
            return locked()

        @lm.method()
        def yields_lock(self) -> Any:
            yield locked()

        @lm.method()
        def sends_lock(self, other: Any) -> Any:
            return other.take.remote(locked())

    return Taker


@pytest.fixture
def taker(site_on_each: Site) -> Any:
    with site_on_each.app.run():
        yield declare(site_on_each.app)


def test_arguments_that_can_not_travel_are_named_with_the_path(taker: Any) -> None:
    one = taker()
    calls: dict[str, Callable[[], Any]] = {
        "argument x=, a dict, can't be sent to the container: x": lambda: one.take.remote(
            x=locked()
        ),
        "argument 1, a dict, can't be sent to the container: argument 1": lambda: one.take.spawn(
            locked()
        ),
        "input 2 of the map: Taker.take: argument 1, a dict": lambda: list(
            one.take.map([1, locked()])
        ),
        "returned a dict, which can't be pickled": one.returns_lock.remote,
        "yielded a dict, which can't be pickled": lambda: list(one.yields_lock.remote_gen()),
        "argument 1, a dict, can't be sent": lambda: one.sends_lock.remote(taker()),
    }
    for said, call in calls.items():
        with pytest.raises(SerializationError) as raised:
            call()
        text = str(raised.value)
        assert said in text
        assert f"['k'][0] {LOCK}" in text or f"['k'][0] {LOCK.partition('.')[0]}" in text
    with pytest.raises(SerializationError, match=r"argument 1 is nested too deeply .*pickled\. F"):
        one.take.remote(deep())
    assert one.take.remote(1) == "taken"


def test_constructor_arguments_that_can_not_travel_are_named_with_the_path(taker: Any) -> None:
    with pytest.raises(InvalidError) as raised:
        taker(1, b=locked())
    assert "argument b=, a dict" in str(raised.value)
    assert f"b['k'][0] {LOCK}" in str(raised.value)
    with pytest.raises(InvalidError, match=r"a is nested too deeply to be pickled\. Fix: "):
        taker(deep())


def test_functions_of_a_namespace_without_a_name_run_in_containers(site_on_each: Site) -> None:
    space: dict[str, Any] = {}
    exec("def triple(x): return x * 3\nclass Point:\n    def four(self): return 4", space)
    triple, point = space["triple"], space["Point"]
    same = eval("lambda x: x", {"__builtins__": {}})

    @site_on_each.app.cls()
    class Uses:
        @lm.method()
        def go(self) -> Any:
            return triple(same(point().four()))

    with site_on_each.app.run():
        assert Uses().go.remote() == 12
