"""Every way to call a handle from inside a container."""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from engine import nested
from engine.work import Site

import lifecycle_magic as lm
from lifecycle_magic.exception import InputCancelled


@pytest.fixture
def classes(site_on_each: Site) -> SimpleNamespace:
    return nested.declare(site_on_each.app, site_on_each.folder.path)


def test_every_form_of_a_call_works_in_a_method(classes: SimpleNamespace) -> None:
    assert classes.Outer().forms.remote() == {
        "spawn": 10,
        "gather": [5, 10],
        "later": 10,
        "items": [0, 5, 10],
        "map": [0, 5, 10, 15],
        "unordered": [0, 5, 10, 15],
        "starmap": [5, 10],
        "for_each": None,
        "function": [0, 2, 4],
        "errors": ["LookupError"],
        "calls": 4,
    }


def test_every_form_of_a_call_works_in_a_coroutine(classes: SimpleNamespace) -> None:
    assert classes.Outer().forms_aio.spawn().get() == {
        "remote": 5,
        "later": 10,
        "spawn": 10,
        "items": [0, 5, 10],
        "map": [0, 5, 10, 15],
        "starmap": [5, 10],
        "for_each": None,
    }


def test_leaving_a_loop_closes_the_generator_in_its_container(
    classes: SimpleNamespace, site_on_each: Site
) -> None:
    outer = classes.Outer()
    assert outer.first_item.remote() == 0
    site_on_each.folder.wait("closed")
    assert outer.call.remote("times", 1) == 5
    assert list(outer.relay.remote_gen(3)) == [0, 5, 10]


def test_cancelling_the_outer_call_interrupts_the_inner_method(
    classes: SimpleNamespace, site_on_each: Site
) -> None:
    outer = classes.Outer()
    call = outer.call.spawn("hold", "a")
    site_on_each.folder.wait("began-a")
    call.cancel()
    site_on_each.folder.wait("interrupted-a")
    with pytest.raises(InputCancelled):
        call.get()
    assert outer.call.remote("times", 2) == 10


def test_interrupting_the_outer_call_interrupts_the_inner_method(
    classes: SimpleNamespace, site_on_each: Site
) -> None:
    outer = classes.Outer()

    def interrupt() -> None:
        site_on_each.folder.wait("began-b")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        outer.call.remote("hold", "b")
    thread.join()
    site_on_each.folder.wait("interrupted-b")
    assert outer.call.remote("times", 2) == 10


def test_concurrent_inputs_call_at_once_and_are_interrupted_alone(site_on_each: Site) -> None:
    classes = nested.declare(site_on_each.app, site_on_each.folder.path, max_containers=2)

    @lm.concurrent(max_inputs=2)
    class Many:
        def __init__(self, inner: object) -> None:
            self.inner = inner

        @lm.method()
        def hold(self, name: str) -> str:
            return self.inner.hold.remote(name)

    many = site_on_each.cls(Many)(classes.inner)
    first, second = many.hold.spawn("c"), many.hold.spawn("d")
    site_on_each.folder.wait("began-c")
    site_on_each.folder.wait("began-d")
    first.cancel()
    site_on_each.folder.wait("interrupted-c")
    site_on_each.go("d")
    assert second.get() == "d"
    assert site_on_each.folder.count("interrupted-d") == 0


def test_methods_ways_to_call_and_started_calls_travel(site_on_each: Site) -> None:
    app = site_on_each.app

    class Scale:
        def __init__(self, by: int = 1) -> None:
            self.by = by

        @lm.method()
        def times(self, x: int) -> int:
            return x * self.by

        @lm.method()
        def upto(self, to: int) -> Iterator[int]:
            yield from range(0, to * self.by, self.by)

    scale = app.cls(Scale, max_containers=4)
    kept = scale(7).times

    @app.function()
    def double(x: int) -> int:
        return 2 * x

    class Taker:
        @lm.method()
        def method(self, method: Any, x: int) -> Any:
            return method.remote(x), list(method.map([x, x]))

        @lm.method()
        def call(self, way: Callable[..., Any], x: int) -> Any:
            return way(x)

        @lm.method()
        def back(self, value: Any) -> Any:
            return value

        @lm.method()
        def of_closure(self, x: int) -> int:
            return int(kept.remote(x))

        @lm.method()
        def wait(self, call: Any) -> Any:
            return call.get()

        @lm.method()
        def start(self, method: Any, x: int) -> Any:
            return method.spawn(x)

    taker = app.cls(Taker)()
    assert taker.method.remote(scale(3).times, 5) == (15, [15, 15])
    assert taker.method.remote(double, 5) == (10, [10, 10])
    assert taker.call.remote(scale(3).times.remote, 5) == 15
    assert taker.call.remote(double.remote, 5) == 10
    assert taker.call.remote(functools.partial(scale(3).times.remote), 4) == 12
    assert taker.of_closure.remote(2) == 14
    assert taker.back.remote(scale(9).times).remote(2) == 18
    assert list(taker.back.remote([scale(2).upto])[0].remote_gen(3)) == [0, 2, 4]
    assert taker.wait.remote(scale(5).times.spawn(2)) == 10
    assert taker.start.remote(scale(5).times, 3).get() == 15
