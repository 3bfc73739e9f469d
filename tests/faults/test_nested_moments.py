"""Calls that call others from all kinds of threads, cancelled and killed at moments nobody chose.

``LIFECYCLE_MAGIC_NESTED_CALLS`` says how many, ``LIFECYCLE_MAGIC_NESTED_KILLS`` how many containers
are killed meanwhile, and ``LIFECYCLE_MAGIC_SEED`` repeats a run.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from engine.work import wait_for

import lifecycle_magic as lm
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.exception import ContainerDied, InputCancelled
from lifecycle_magic.session import session

CALLS = int(os.environ.get("LIFECYCLE_MAGIC_NESTED_CALLS", 60))
KILLS = int(os.environ.get("LIFECYCLE_MAGIC_NESTED_KILLS", 2))
SEED = int(os.environ.get("LIFECYCLE_MAGIC_SEED", time.time_ns() % 1_000_000))
CALLERS = 4
MOST_SECONDS = 0.1
"""A call is cancelled up to this long after its start."""

FORMS = ("plain", "large", "threads", "pool", "later")

pytestmark = [pytest.mark.process, pytest.mark.timeout(120 + CALLS)]


def declare(app: lm.App) -> list[Any]:
    """Return the handles of two classes, one of them concurrent, whose methods call a third one."""

    @app.cls(max_containers=6)
    class Inner:
        @lm.method()
        def echo(self, x: Any) -> Any:
            end = time.monotonic() + 0.02
            while time.monotonic() < end:
                time.sleep(0.001)
            return x

    class Base:
        @lm.method()
        def plain(self, count: int) -> list[int]:
            return [Inner().echo.remote(number) for number in range(count)]

        @lm.method()
        def large(self, count: int) -> list[int]:
            sizes = [300_000 + number for number in range(count)]
            return [len(Inner().echo.remote(bytes(size))) - 300_000 for size in sizes]

        @lm.method()
        async def threads(self, count: int) -> list[int]:
            calls = [asyncio.to_thread(Inner().echo.remote, number) for number in range(count)]
            return await asyncio.gather(*calls)

        @lm.method()
        def pool(self, count: int) -> list[int]:
            with ThreadPoolExecutor(count) as pool:
                return list(pool.map(Inner().echo.remote, range(count)))

        @lm.method()
        async def later(self, count: int) -> list[int]:
            calls = [Inner().echo.remote.aio(number) for number in range(count)]
            return await asyncio.gather(*calls)

    @app.cls(max_containers=3)
    class Outer(Base):
        pass

    @app.cls(max_containers=2)
    @lm.concurrent(max_inputs=3)
    class Wide(Base):
        pass

    return [Outer(), Wide()]


def call(outers: list[Any], dice: random.Random) -> str:
    """Make a call, which may be cancelled, and return how it ended."""
    form, count = dice.choice(FORMS), dice.randint(1, 4)
    started = getattr(dice.choice(outers), form).spawn(count)
    if dice.random() < 0.4:
        time.sleep(dice.random() * MOST_SECONDS)
        started.cancel()
    try:
        got = started.get(timeout=60)
    except (ContainerDied, InputCancelled) as error:
        return type(error).__name__
    except BaseException as error:
        return f"{form} raised {error!r}"
    return "right" if got == list(range(count)) else f"{form}({count}) returned {got}"


def kill_one(dice: random.Random) -> None:
    time.sleep(dice.random() * 10 * MOST_SECONDS)
    alive = [one for one in session.current().containers() if one.slots]
    if alive:
        dice.choice(alive).end(Ending(EndKind.KILL, "the test ended it"))


def test_calls_that_call_others_end_right_cancelled_or_with_their_container() -> None:
    with lm.App("nested-moments", engine="process").run() as app:
        outers = declare(app)
        for outer in outers:
            assert outer.plain.remote(2) == [0, 1]

        def caller(number: int) -> list[str]:
            dice = random.Random(CALLERS * SEED + number)
            return [call(outers, dice) for _ in range(CALLS // CALLERS)]

        with ThreadPoolExecutor(CALLERS + 1) as threads:
            ends = threads.map(caller, range(CALLERS))
            dice = random.Random(SEED)
            for _ in range(KILLS):
                kill_one(dice)
            counts = Counter(end for found in ends for end in found)
        assert set(counts) <= {"right", "ContainerDied", "InputCancelled"}, f"seed {SEED}: {counts}"
        wait_for(lambda: not running(), f"the end of all calls, seed {SEED}")
        for outer in outers:
            assert outer.threads.remote(3) == [0, 1, 2]


def running() -> list[object]:
    slots = [slot for one in session.current().containers() for slot in one.slots]
    return [slot.input for slot in slots if slot.input is not None]
