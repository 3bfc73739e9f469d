"""Blocking calls from inside containers, each of which has a connection to itself while it runs.

The first call on a connection looks its pool up. Only later ones are made by the thread of the
connection itself, so each test makes a first one.
"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from engine import nested
from engine.work import Site, wait_for

import lifecycle_magic as lm
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.exception import ContainerDied, InputCancelled, InvalidError
from lifecycle_magic.services.serial_connection import SerialConnection
from lifecycle_magic.session import session


def connections() -> list[SerialConnection]:
    calls = session.current().container_calls
    return [one for one in list(calls.connections) if isinstance(one, SerialConnection)]


@pytest.fixture
def outer(site_on_each: Site) -> Any:
    found = nested.declare(site_on_each.app, site_on_each.folder.path).Outer()
    assert [found.call.remote("times", 2) for _ in range(3)] == [10, 10, 10]
    assert len(connections()) == 1
    return found


def test_a_cancelled_call_interrupts_the_inner_method(outer: Any, site_on_each: Site) -> None:
    call = outer.call.spawn("hold", "a")
    site_on_each.folder.wait("began-a")
    call.cancel()
    site_on_each.folder.wait("interrupted-a")
    with pytest.raises(InputCancelled):
        call.get()
    assert outer.call.remote("times", 2) == 10
    wait_for(lambda: len(connections()) == 1, "the end of the interrupted connection")


def test_an_interrupt_reaches_what_another_thread_of_the_call_waits_for(
    outer: Any, site_on_each: Site
) -> None:
    folder = site_on_each.folder
    call = outer.hold_both.spawn()
    folder.wait("began-1")
    folder.wait("began-2")
    folder.note("go-1")
    wait_for(lambda: len(running_inner()) == 1, "the answer of the first call")
    call.cancel()
    folder.wait("interrupted-2")
    with pytest.raises(InputCancelled):
        call.get()
    assert outer.call.remote("times", 2) == 10


def test_a_thread_of_the_users_code_has_a_connection_of_its_own(
    outer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[SerialConnection] = []
    call_now = SerialConnection._call_now

    def note(self: SerialConnection, *given: Any) -> bool:
        done = call_now(self, *given)
        seen.extend([self] * done)
        return done

    monkeypatch.setattr(SerialConnection, "_call_now", note)
    for _ in range(2):
        assert outer.on_threads.remote(1) == [0]
    assert len(seen) == 2


def running_inner() -> list[object]:
    inner = [one for one in session.current().containers() if one.plan.cls == "Inner"]
    return [slot.input for one in inner for slot in one.slots if slot.input is not None]


def test_a_caller_that_dies_interrupts_the_inner_method(outer: Any, site_on_each: Site) -> None:
    call = outer.call.spawn("hold", "b")
    site_on_each.folder.wait("began-b")
    [container] = [one for one in session.current().containers() if one.plan.cls == "Outer"]
    container.end(Ending(EndKind.KILL, "the test ended it"))
    site_on_each.folder.wait("interrupted-b")
    with pytest.raises((ContainerDied, InputCancelled)):
        call.get()
    assert outer.call.remote("times", 2) == 10


def test_errors_of_the_inner_method_and_of_its_container(outer: Any) -> None:
    with pytest.raises(LookupError, match="no such thing"):
        outer.call.remote("fail", "no such thing")
    with pytest.raises(ContainerDied, match="Inner"):
        outer.call.remote("die")
    assert outer.call.remote("times", 2) == 10


def test_a_circle_fails_at_once(site_on_each: Site) -> None:
    app = site_on_each.app
    handles = SimpleNamespace()

    @app.cls(max_containers=1)
    class First:
        @lm.method()
        def go(self, depth: int) -> int:
            return 1 + handles.second.go.remote(depth - 1) if depth else 0

    @app.cls(max_containers=1)
    class Second:
        @lm.method()
        def go(self, depth: int) -> int:
            return 1 + handles.first.go.remote(depth - 1) if depth else 0

    handles.first, handles.second = First(), Second()
    for _ in range(2):
        assert handles.first.go.remote(1) == 1
        assert handles.second.go.remote(1) == 1
    with pytest.raises(InvalidError, match=r"would wait forever.*First → Second → First"):
        handles.first.go.remote(2)
    assert handles.first.go.remote(1) == 1


def test_the_caller_asks_what_the_inner_method_asks(
    site_on_each: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    @site_on_each.app.function()
    def ask(text: str) -> str:
        return input(text)

    @site_on_each.app.function()
    def ask_often() -> list[str]:
        return [ask.remote(f"question {number}") for number in range(3)]

    monkeypatch.setattr("builtins.input", lambda text="": text.upper())
    assert ask_often.remote() == ["QUESTION 0", "QUESTION 1", "QUESTION 2"]


def test_large_values_are_passed_on(site_on_each: Site) -> None:
    app = site_on_each.app
    image = lm.Image.debian_slim().uv_pip_install("numpy")

    @app.cls(image=image)
    class Inner:
        def __init__(self) -> None:
            self.kept: list[Any] = []

        @lm.method()
        def add(self, array: Any, number: int) -> Any:
            array += number
            return array

        @lm.method()
        def keep(self, array: Any) -> int:
            self.kept.append(array)
            return len(self.kept)

        @lm.method()
        def sums(self) -> list[int]:
            return [int(one.sum()) for one in self.kept]

        @lm.method()
        def zeros(self, size: int) -> Any:
            return np.zeros(size, np.uint8)

        @lm.method()
        def die(self, array: Any) -> None:
            os._exit(3)

    inner = Inner()

    @app.cls(image=image)
    class Outer:
        @lm.method()
        def run(self, size: int) -> dict[str, Any]:
            found: dict[str, Any] = {}
            array = np.ones(size, np.uint8)
            found["added"] = [int(inner.add.remote(array, n).sum()) // size for n in range(5)]
            found["own"] = int(array.sum()) // size
            kept = [inner.add.remote(array, n) for n in range(3)]
            found["kept here"] = [int(one.sum()) // size for one in kept]
            found["count"] = [inner.keep.remote(n * array) for n in range(3)][-1]
            inner.add.remote(array, 7)
            found["kept there"] = [one // size for one in inner.sums.remote()]
            found["zeros"] = int(inner.zeros.remote(size).sum())
            return found

        @lm.method()
        def die(self, size: int) -> str:
            try:
                inner.die.remote(np.ones(size, np.uint8))
            except ContainerDied as error:
                return type(error).__name__
            return ""

    outer = Outer()
    expected = {
        "added": [1, 2, 3, 4, 5],
        "own": 1,
        "kept here": [1, 2, 3],
        "count": 3,
        "kept there": [0, 1, 2],
        "zeros": 0,
    }
    assert outer.run.remote(1 << 20) == expected
    assert outer.die.remote(1 << 20) == "ContainerDied"
    assert outer.run.remote(1 << 21) == expected
