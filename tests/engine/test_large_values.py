"""Large arguments and results in real containers: what is kept stays, and TCP carries them too.

A `pickle.PickleBuffer` arrives as a view of the memory that it came in, as an array's data does.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine.work import Site

import lifecycle_magic as lm
from lifecycle_magic import session
from lifecycle_magic.engines.base import Engine
from lifecycle_magic.engines.docker import DockerEngine
from lifecycle_magic.engines.process import ProcessEngine

SIZE = 300_000


def content(number: int) -> bytes:
    return hashlib.shake_128(str(number).encode()).digest(SIZE)


class Keeps:
    def __init__(self, path: str) -> None:
        self.kept: Any = None

    @lm.method()
    def keep(self, buffer: Any) -> None:
        self.kept = buffer

    @lm.method()
    def what_was_kept(self) -> bytes:
        return bytes(self.kept)

    @lm.method()
    def echo(self, buffer: Any) -> Any:
        return pickle.PickleBuffer(buffer)

    @lm.method()
    def another(self, buffer: Any) -> Any:
        return pickle.PickleBuffer(bytearray(buffer))

    @lm.method()
    def kept_and_back(self, buffer: Any) -> Any:
        self.kept = buffer
        return pickle.PickleBuffer(buffer)

    @lm.method()
    def same(self, value: Any) -> Any:
        return value


def test_a_kept_argument_and_a_kept_result_outlive_a_thousand_calls(site_on_each: Site) -> None:
    work = site_on_each.instance(Keeps)
    work.keep.remote(pickle.PickleBuffer(content(-1)))
    moved = work.echo.remote(pickle.PickleBuffer(bytearray(content(-2))))
    other = work.another.remote(pickle.PickleBuffer(content(-3)))
    for number in range(1000):
        call = work.another if number % 2 else work.echo
        back = call.remote(pickle.PickleBuffer(bytearray(content(number))))
        assert back == content(number)
    (container,) = session.current().containers()
    shared = container.slots[0].channel.shared
    assert shared is not None
    assert shared.mine, "no argument went by shared memory"
    assert shared.theirs, "no result did"
    assert work.what_was_kept.remote() == content(-1)
    assert moved == content(-2)
    assert other == content(-3)


def test_a_result_is_the_callers_own_although_the_argument_was_kept(site_on_each: Site) -> None:
    work = site_on_each.instance(Keeps)
    back = work.kept_and_back.remote(pickle.PickleBuffer(bytearray(content(1))))
    back[:] = bytes(SIZE)
    assert work.what_was_kept.remote() == content(1)


def test_what_a_method_returns_as_it_came_is_not_copied_back(site_on_each: Site) -> None:
    work = site_on_each.instance(Keeps)
    for number in range(20):
        sent = bytearray(content(number))
        assert work.echo.remote(pickle.PickleBuffer(sent)) == sent
    (container,) = session.current().containers()
    shared = container.slots[0].channel.shared
    assert shared is not None
    assert shared.mine, "no argument went by shared memory"
    assert not shared.theirs, "a result was copied"


@pytest.fixture(
    params=[
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("process", marks=pytest.mark.process),
    ]
)
def far(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """Containers that dial home over TCP."""
    engine: Engine
    if request.param == "docker":
        request.getfixturevalue("need_docker")
        engine = DockerEngine(transport="tcp")
    else:
        engine = ProcessEngine(sandbox=False, transport="tcp")
    session.current()._engines[request.param] = engine
    with contextlib.ExitStack() as ends:
        if isinstance(engine, DockerEngine):
            ends.enter_context(contextlib.closing(engine))
        ends.callback(session.close, "the test is over")
        yield Site(lm.App(request.node.name, engine=request.param), tmp_path)


def test_large_values_travel_over_tcp(far: Site) -> None:
    work = far.instance(Keeps, max_containers=2)
    for size in (10, 5_000, 300_000, 20_000_000):
        value = content(size)[:1] * size
        assert work.echo.remote(pickle.PickleBuffer(value)) == value
        assert work.same.remote(value) == value
        assert work.same.spawn([value, "x"]).get() == [value, "x"]
    inputs = [content(number) for number in range(20)]
    assert list(work.same.map(inputs)) == inputs
    got = work.echo.map([pickle.PickleBuffer(one) for one in inputs], order_outputs=False)
    assert sorted(map(bytes, got)) == sorted(inputs)
