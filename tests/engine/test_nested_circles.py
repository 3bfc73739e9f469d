"""Calls from inside containers that would wait for each other for ever fail at once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from engine.work import Site, wait_for

import lifecycle_magic as lm
from lifecycle_magic.calls import circles
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.services import circle_watch

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


def test_a_circle_that_the_next_item_closes_fails(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circle_watch, "LOOK_SECONDS", 0.05)
    volumes = {site.folder.path: lm.Volume.from_path(site.folder.path)}
    options: Any = {"max_containers": 1, "volumes": volumes}

    def note(path: str, event: str) -> None:
        open(f"{path}/{event}.", "x").close()

    def wait(path: str, event: str) -> None:
        while not any(name.startswith(f"{event}.") for name in os.listdir(path)):
            time.sleep(0.002)

    class Items:
        @lm.method()
        def items(self, held: Any) -> Iterator[str]:
            yield "first"
            yield held.end.remote()  # runs ahead of its reader, and waits for Holder

        @lm.method()
        def end(self) -> str:
            return "end"

    class Holder:
        @lm.method()
        def hold(self, path: str, items: Any) -> str:
            note(path, "held")
            wait(path, "call")
            return items.end.remote()  # waits for Items

        @lm.method()
        def end(self) -> str:
            return "end"

    class Reader:
        @lm.method()
        def read(self, path: str, items: Any, held: Any) -> list[str]:
            found = items.items.remote_gen(held)
            first = next(found)
            wait(path, "next")
            return [first, *found]

    items = site.app.cls(Items, **options)()
    held = site.app.cls(Holder, **options)()
    reader = site.app.cls(Reader, **options)()
    holding = held.hold.spawn(site.folder.path, items)
    site.folder.wait("held")
    reading = reader.read.spawn(site.folder.path, items, held)
    wait_for(circles.has_waiting_generators, "the generator waits for Holder")
    site.folder.note("call")
    wait_for(lambda: len(circles.graph("").full) == 2, "Holder waits for Items")
    site.folder.note("next")
    with pytest.raises(InvalidError, match=r"Items.end would wait.*Items → Holder → Items"):
        holding.get(timeout=60)
    assert reading.get(timeout=60) == ["first", "end"]
