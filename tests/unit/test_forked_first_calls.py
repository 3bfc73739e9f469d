"""Interrupts of a container's first calls, when much is used for the first time: `fakes.forked`.

Nothing is imported here before a container starts, as in a real one.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fakes.forked import Forked, ForkEngine

import lifecycle_magic as lm
from lifecycle_magic.exception import InputCancelled

pytestmark = pytest.mark.every_python

TIMES = int(os.environ.get("LIFECYCLE_MAGIC_SOAK", "8"))


@pytest.fixture(scope="module")
def engine() -> Iterator[ForkEngine]:
    made = ForkEngine(imports=())
    yield made
    made.close()


class First:
    """A class with methods that await something and return their argument."""

    def __init__(self) -> None:
        self.ghosts = 0

    @lm.method()
    async def wait(self, x: int, seconds: float) -> int:
        import asyncio

        self.ghosts += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self.ghosts -= 1
        return x

    @lm.method()
    async def count(self, most: int) -> AsyncIterator[int]:
        import asyncio

        for number in range(most):
            await asyncio.sleep(0)
            yield number

    @lm.method()
    def left_running(self) -> int:
        return self.ghosts


@lm.concurrent(max_inputs=2)
class FirstOfSeveral(First):
    pass


@pytest.mark.parametrize("cls", [First, FirstOfSeveral])
def test_an_interrupt_at_any_moment_of_the_first_async_call(engine: ForkEngine, cls: type) -> None:
    moments = random.Random(7)
    took = 0.1
    for _ in range(TIMES):
        with Forked(engine, cls, max_containers=1) as work:
            work.pool.warm()
            began = time.monotonic()
            call = work.wait.spawn(1, 0.01)
            threading.Event().wait(moments.random() * 1.2 * took)
            call.cancel()
            assert work.wait.remote(2, 0) == 2
            took = min(took, time.monotonic() - began)
            assert list(work.count.remote_gen(3)) == [0, 1, 2]
            while work.made[0].running:  # the interrupted call, in another slot
                os.sched_yield()
            assert work.left_running.remote() == 0
            assert len(work.made) == 1


class Watches:
    """A class that records imports, except its own, at moments when an interrupt could raise."""

    @lm.enter()
    def load(self) -> None:
        from lifecycle_magic.guest.output import current_lane

        lane = current_lane.get()
        assert lane is not None
        self.found: list[str] = []
        target, found = lane.target, self.found

        class Finder:
            @staticmethod
            def find_spec(name: str, path: object = None, target_: object = None) -> None:
                held = target._shielded or target.interrupts._held
                if target.current is not None and not held:
                    found.append(name)

        sys.meta_path.insert(0, Finder)  # type: ignore[arg-type]

    @lm.method()
    def plain(self, x: Any) -> Any:
        print("printed")
        return x

    @lm.method()
    async def awaited(self, x: Any) -> Any:
        return x

    @lm.method()
    def items(self, x: Any) -> Iterator[Any]:
        yield x

    @lm.method()
    async def async_items(self, x: Any) -> AsyncIterator[Any]:
        yield x

    @lm.method()
    def fails(self) -> None:
        raise ValueError("on purpose")

    @lm.method()
    def imported(self) -> list[str]:
        return self.found


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_the_package_imports_nothing_where_an_interrupt_raises(
    engine: ForkEngine, size: int
) -> None:
    value = bytearray(size)
    with Forked(engine, Watches, max_containers=1) as work:
        assert work.plain.remote(value) == value
        assert work.awaited.remote(value) == value
        assert list(work.items.remote_gen(value)) == [value]
        assert list(work.async_items.remote_gen(value)) == [value]
        assert list(work.plain.map([value, value])) == [value, value]
        with pytest.raises(ValueError, match="on purpose"):
            work.fails.remote()
        assert work.imported.remote() == []


class Deaf:
    @lm.method()
    async def deaf(self, path: str) -> None:
        import asyncio

        open(path, "w").close()
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                continue

    @lm.method()
    async def blocks(self, path: str) -> None:
        open(path, "w").close()
        time.sleep(600)

    @lm.method()
    async def exits(self) -> None:
        sys.exit(3)

    @lm.method()
    async def leaves_a_task(self) -> None:
        import asyncio

        async def leave() -> None:
            await asyncio.sleep(0)
            sys.exit(4)

        self.task = asyncio.create_task(leave())

    @lm.method()
    async def pid(self) -> int:
        return os.getpid()


@lm.concurrent(max_inputs=2)
class DeafOfSeveral(Deaf):
    pass


@pytest.mark.parametrize("cls", [Deaf, DeafOfSeveral])
def test_a_coroutine_that_blocks_its_loop_is_interrupted_by_the_second(
    engine: ForkEngine, cls: type, tmp_path: Any
) -> None:
    path = tmp_path / "told"
    os.mkfifo(path)
    with Forked(engine, cls, max_containers=1) as work:
        pid = work.pid.remote()
        call = work.blocks.spawn(str(path))
        path.read_text()
        call.cancel()
        with pytest.raises(InputCancelled):
            call.get()
        assert work.pid.remote() == pid


@pytest.mark.parametrize("cls", [Deaf, DeafOfSeveral])
def test_a_coroutine_that_ignores_its_interrupts_ends_with_its_container(
    engine: ForkEngine, cls: type, tmp_path: Any
) -> None:
    path = tmp_path / "told"
    os.mkfifo(path)
    with Forked(engine, cls, max_containers=1) as work:
        pid = work.pid.remote()
        call = work.deaf.spawn(str(path))
        path.read_text()
        call.cancel()
        assert work.made[0].exited.wait(30)
        assert work.pid.remote() != pid


@pytest.mark.parametrize("cls", [Deaf, DeafOfSeveral])
def test_a_coroutine_that_exits_ends_its_call_and_nothing_else(
    engine: ForkEngine, cls: type
) -> None:
    with Forked(engine, cls, max_containers=1) as work:
        pid = work.pid.remote()
        with pytest.raises(SystemExit):
            work.exits.remote()
        work.leaves_a_task.remote()
        assert work.pid.remote() == pid
        assert asyncio.run(work.pid.remote.aio()) == pid
