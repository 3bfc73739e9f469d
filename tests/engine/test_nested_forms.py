"""Every way to call a handle from inside a container."""

from __future__ import annotations

import signal
import threading
from types import SimpleNamespace

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
