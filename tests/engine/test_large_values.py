"""Large arguments and results in real containers: what is kept stays, and TCP carries them too.

A `pickle.PickleBuffer` arrives as a view of the memory that it came in, as an array's data does.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import pickle
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine.work import Site, wait_for

import lifecycle_magic as lm
from lifecycle_magic.container.container import Container
from lifecycle_magic.engines.process.engine import ProcessEngine
from lifecycle_magic.exception import ContainerDied
from lifecycle_magic.session import session

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
    def end_it(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @lm.method()
    def size(self, buffer: Any) -> int:
        return len(buffer)

    @lm.method()
    def modules(self) -> list[str]:
        return sorted(name for name in sys.modules if name != "__main__")

    @lm.method()
    def same(self, value: Any) -> Any:
        return value


class Arrays:
    def __init__(self, path: str) -> None:
        self.array: Any = None

    @lm.method()
    def doubled_in_place(self, array: Any) -> Any:
        array *= 2
        return array

    @lm.method()
    def kept(self, array: Any) -> Any:
        self.array = array
        return array

    @lm.method()
    def sum_of_kept(self) -> float:
        return float(self.array.sum())

    @lm.method()
    def part(self, array: Any) -> Any:
        return array[10:]


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


@pytest.fixture
def far(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """Containers that share no memory: they dial home over TCP."""
    session.current()._engines["process"] = ProcessEngine(sandbox=False, transport="tcp")
    yield Site(lm.App(request.node.name, engine="process"), tmp_path)
    session.close("the test is over")


@pytest.mark.process
def test_large_values_travel_without_shared_memory(far: Site) -> None:
    alone = far.instance(Keeps)
    kept = alone.kept_and_back.remote(pickle.PickleBuffer(bytearray(content(-2))))
    alone.echo.remote(pickle.PickleBuffer(content(-3)))
    assert alone.what_was_kept.remote() == content(-2)
    kept[:3] = b"new"  # it is the caller's own, as with shared memory
    assert alone.what_was_kept.remote() == content(-2)
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


def mapped(pid: int | str = "self") -> int:
    """How many segments that process of the host has mapped."""
    return Path(f"/proc/{pid}/maps").read_text().count("memfd:lifecycle_magic")


def mapped_in(container: Container) -> int:
    """The same of all processes of a container."""
    marker = f"LIFECYCLE_MAGIC_INSTANCE={container.name}".encode()
    found = 0
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if marker in (place / "environ").read_bytes().split(b"\0"):
                found += mapped(place.name)
    return found


@pytest.mark.process
@pytest.mark.slow
def test_what_nobody_uses_goes_back_to_the_system_while_nothing_happens(
    site: Site,
) -> None:
    """Also what was spawned, and an input that was taken back before it began."""
    work = site.instance(Keeps)
    large = pickle.PickleBuffer(bytearray(content(1)))
    assert work.another.spawn(large).get() == content(1)
    results = work.size.map([large] * 3)
    assert next(results) == SIZE
    results.close()
    (container,) = session.current().containers()
    assert mapped()
    assert mapped_in(container)
    wait_for(lambda: not mapped() and not mapped_in(container), "that they are given back")


@pytest.mark.process
def test_what_is_kept_outlives_its_container_and_nothing_else_does(site: Site) -> None:
    work = site.instance(Keeps)
    moved = work.echo.remote(pickle.PickleBuffer(bytearray(content(1))))
    other = work.another.remote(pickle.PickleBuffer(content(2)))
    work.keep.remote(pickle.PickleBuffer(content(3)))
    with pytest.raises(ContainerDied):
        work.end_it.remote()
    assert (moved, other) == (content(1), content(2))
    del moved, other
    gc.collect()
    assert work.same.remote(1) == 1, "in another container"
    wait_for(lambda: not mapped(), "that the memory is given back")


def test_a_call_imports_nothing(site_on_each: Site) -> None:
    """Not even the first one, on either side; the first large value has ctypes loaded."""
    work = site_on_each.instance(Keeps)
    there = work.modules.remote()
    here = set(sys.modules)
    work.same.remote([1, "x"])
    work.keep.remote({"a": 2.0})
    assert work.modules.remote() == there
    assert set(sys.modules) == here
    needless = {"ctypes", "asyncio", "hmac", "lifecycle_magic.pool.pool", "fastapi"}
    if sys.version_info >= (3, 11):  # before, cloudpickle imports it by way of platform
        needless.add("subprocess")
    assert not needless & set(there)
    work.same.remote(content(1))
    # From Python 3.14 on, ctypes itself imports sysconfig.
    of_ctypes = {"ctypes", "_ctypes", "ctypes._endian", "sysconfig"}
    assert set(work.modules.remote()) - set(there) <= of_ctypes


@pytest.mark.process
def test_arrays_are_ordinary_arrays_on_both_sides(site: Site) -> None:
    work = site.instance(Arrays, image=lm.Image.debian_slim().uv_pip_install("numpy"))
    sent = np.arange(100_000.0)
    back = work.doubled_in_place.remote(sent)
    assert np.array_equal(back, 2 * sent)
    assert np.array_equal(sent, np.arange(100_000.0)), "it was not the caller's that changed"
    back += 1
    assert back.flags.writeable
    assert back.flags.aligned
    kept = work.kept.remote(sent)
    kept[:] = 0
    assert work.sum_of_kept.remote() == sent.sum()
    other = work.part.remote(sent)
    assert np.array_equal(other, sent[10:])
