"""Calls that wait for each other for ever through two sessions fail soon, with the circle named."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine.other_process import OtherProcess
from engine.work import Folder, Site, wait_for

import lifecycle_magic as lm
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.peers.connection import PeerConnection
from lifecycle_magic.services import circle_watch
from lifecycle_magic.services.relayed_calls import RelayedCall
from lifecycle_magic.wire.nested import ITEMS

pytestmark = pytest.mark.process

CODE = """
import lifecycle_magic as lm
from engine.work import Folder
from lifecycle_magic.services import circle_watch

circle_watch.LOOK_SECONDS = 0.05
app = lm.App(NAME)
VOLUMES = {PLACE: lm.Volume.from_path(PLACE)}

@app.cls(max_containers=1, volumes=VOLUMES)
class Two:
    @lm.method()
    def pong(self, app, name):
        notes = Folder(PLACE)
        notes.note("pong")
        return lm.Cls.from_name(app, name)().end.remote()

    @lm.method()
    def pong_later(self, app, name):
        return lm.Cls.from_name(app, name)().end.spawn().get()

    @lm.method()
    def pong_items(self, app, name):
        yield from lm.Cls.from_name(app, name)().ends.remote_gen()

    @lm.method()
    def numbers(self):
        yield from range(3)

    @lm.method()
    def double(self, x):
        return 2 * x

    @lm.method()
    def hold(self):
        notes = Folder(PLACE)
        notes.note("began")
        notes.wait("go")
        return "held"

from lifecycle_magic.session import session
session.current()
"""


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(str(tmp_path_factory.mktemp("notes")))


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory, notes: Folder) -> Iterator[str]:
    name = f"far-{uuid.uuid4().hex[:8]}"
    code = CODE.replace("NAME", repr(name)).replace("PLACE", repr(notes.path))
    tests = str(Path(__file__).parents[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFECYCLE_MAGIC_ENGINE", "process")
        folder = tmp_path_factory.mktemp("far") / "process"
        with OtherProcess(folder, code, PYTHONPATH=tests) as process:
            process.run("Two().hold")
            yield name


class Near:
    """An app of this process, and a class whose methods call the other session."""

    def __init__(self, most: int) -> None:
        self.name = f"near-{uuid.uuid4().hex[:8]}"
        self.app = lm.App(self.name, engine="process")

        class One:
            @lm.method()
            def go(self, far: str, near: str) -> Any:
                return lm.Cls.from_name(far, "Two")().pong.remote(near, "One")

            @lm.method()
            def go_later(self, far: str, near: str) -> Any:
                return lm.Cls.from_name(far, "Two")().pong_later.spawn(near, "One").get()

            @lm.method()
            def go_through_items(self, far: str, near: str) -> Any:
                return list(lm.Cls.from_name(far, "Two")().pong_items.remote_gen(near, "One"))

            @lm.method()
            def read_and_call(self, far: str, near: str) -> Any:
                two = lm.Cls.from_name(far, "Two")()
                return [two.double.remote(x) for x in two.numbers.remote_gen()]

            @lm.method()
            def ends(self) -> Iterator[str]:
                yield "end"

            @lm.method()
            def go_and_hold(self, far: str) -> Any:
                return lm.Cls.from_name(far, "Two")().hold.remote()

            @lm.method()
            def go_and_end(self, far: str) -> list[int]:
                return list(lm.Cls.from_name(far, "Two")().numbers.remote_gen())

            @lm.method()
            def end(self) -> str:
                return "end"

        self.one = self.app.cls(One, max_containers=most)()


@pytest.fixture(autouse=True)
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Count the looks of this process, which come fast."""
    monkeypatch.setattr(circle_watch, "LOOK_SECONDS", 0.05)
    found: list[Any] = []
    find = circle_watch.CircleWatch._find

    def recorded(self: circle_watch.CircleWatch) -> Any:
        found.append(find(self))
        return found[-1]

    monkeypatch.setattr(circle_watch.CircleWatch, "_find", recorded)
    return found


def test_a_circle_through_two_sessions_fails_with_its_name(site: Site, far: str) -> None:
    near = Near(1)
    for method in (near.one.go, near.one.go_later):
        expected = r"One.end would .*One → Two → One.*max_containers=2"
        with pytest.raises(InvalidError, match=expected):
            method.remote(far, near.name)
    assert near.one.end.remote() == "end"  # nothing was left behind
    wider = Near(2)
    assert wider.one.go.remote(far, wider.name) == "end"


def test_a_circle_through_generators_fails_with_its_name(site: Site, far: str) -> None:
    near = Near(1)
    expected = r"One.ends would .*One → Two → One.*max_containers=2"
    with pytest.raises(InvalidError, match=expected):
        near.one.go_through_items.remote(far, near.name)
    wider = Near(2)
    assert wider.one.go_through_items.remote(far, wider.name) == ["end"]
    assert wider.one.end.remote() == "end"
    # The generator that is half read holds the one slot of the class that is called.
    with pytest.raises(InvalidError, match=r"Two.double would .*Two → Two.*max_containers=2"):
        near.one.read_and_call.remote(far, near.name)
    assert near.one.go_and_end.remote(far) == [0, 1, 2]  # nothing was left behind


def test_one_call_of_a_circle_fails_and_the_others_end(site: Site, far: str) -> None:
    near = Near(2)
    calls = [near.one.go.spawn(far, near.name) for _ in range(2)]
    outcomes = [_outcome(call) for call in calls]
    assert sorted(outcomes) == ["end", "refused"]


def _outcome(call: lm.FunctionCall[Any]) -> str:
    try:
        return str(call.get(timeout=60))
    except InvalidError:
        return "refused"


def test_a_long_wait_is_no_circle(site: Site, far: str, notes: Folder, looks: list[Any]) -> None:
    near = Near(1)
    call = near.one.go_and_hold.spawn(far)
    notes.wait("began")
    queued = near.one.go_and_hold.spawn(far)  # at a pool that is full
    inside = lm.App(engine="process")

    class Outer:
        @lm.method()
        def go(self, near: str) -> Any:
            return lm.Cls.from_name(near, "One")().end.remote()

    waiting = inside.cls(Outer)().go.spawn(near.name)
    wait_for(lambda: len(looks) >= 5, "five looks")
    assert not any(looks)
    notes.note("go")
    assert [one.get(timeout=60) for one in (call, queued, waiting)] == ["held", "held", "end"]


def test_an_item_may_be_asked_for_before_the_call_has_its_number(
    site: Site, far: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()
    start, send = PeerConnection.start, RelayedCall.send

    def late(self: PeerConnection, *given: Any) -> int:
        number = start(self, *given)
        if given[0].form == ITEMS:
            assert asked.wait(60)  # its first item has arrived, and the next one is wanted
        return number

    def sent(self: RelayedCall, kind: int) -> None:
        send(self, kind)
        asked.set()

    monkeypatch.setattr(PeerConnection, "start", late)
    monkeypatch.setattr(RelayedCall, "send", sent)
    assert Near(1).one.go_and_end.spawn(far).get(timeout=60) == [0, 1, 2]
