"""Calls from inside containers that would wait for each other for ever fail at once."""

from __future__ import annotations

from typing import Any

import pytest
from engine.work import Site

import lifecycle_magic as lm
from lifecycle_magic.exception import InvalidError

pytestmark = pytest.mark.process


@pytest.mark.parametrize("form", ["remote", "get"])
def test_a_circle_of_two_full_pools_fails_at_once(site: Site, form: str) -> None:
    class One:
        def __init__(self) -> None:
            self.other: Any = None

        @lm.method()
        def go(self, other: Any, back: Any, form: str) -> str:
            if form == "get":
                return other.pong.spawn(back, form).get()
            return other.pong.remote(back, form)

        @lm.method()
        def end(self) -> str:
            return "end"

    class Two:
        @lm.method()
        def pong(self, back: Any, form: str) -> str:
            if form == "get":
                return back.end.spawn().get()
            return back.end.remote()

    one, two = site.app.cls(One, max_containers=1)(), site.app.cls(Two, max_containers=1)()
    with pytest.raises(InvalidError, match=r"One.end would wait.*One → Two → One.*max_cont"):
        one.go.remote(two, one, form)
    assert one.end.remote() == "end"  # nothing was left behind
    more = site.app.cls(One, max_containers=2, name="More")()
    assert more.go.remote(two, more, form) == "end"


def test_a_method_that_calls_its_own_full_pool_fails_at_once(site: Site) -> None:
    class Self:
        @lm.method()
        def go(self, own: Any, depth: int) -> int:
            return own.go.remote(own, depth - 1) if depth else 0

    own = site.app.cls(Self, max_containers=2)()
    assert own.go.remote(own, 1) == 0
    with pytest.raises(InvalidError, match=r"would wait forever.*Self → Self.*max_containers=3"):
        own.go.remote(own, 2)


def test_a_wait_with_a_timeout_is_no_circle(site: Site) -> None:
    class Patient:
        @lm.method()
        def go(self, own: Any) -> str:
            call = own.go.spawn(None) if own is not None else None
            if call is None:
                return "end"
            try:
                return call.get(timeout=0.2)
            except TimeoutError:
                call.cancel()
                return "timeout"

    own = site.app.cls(Patient, max_containers=1)()
    assert own.go.remote(own) == "timeout"
