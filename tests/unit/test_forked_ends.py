"""The ends of containers and the reports of them, with the real guest: see `fakes.forked`."""

from __future__ import annotations

import asyncio
import os
import pickle
import shutil
import signal
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakes.forked import Forked, ForkEngine

import lifecycle_magic as lm
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.exception import ContainerDied, RemoteError, WireError
from lifecycle_magic.guest.failures import MAX_TRACEBACK_CHARS
from lifecycle_magic.lifecycle.states import WARM_STATES, State
from lifecycle_magic.pool import crash_loop, pending_start, pool, replacement, scale_down, swap
from lifecycle_magic.wire.frames import Kind

pytestmark = pytest.mark.every_python


@pytest.fixture(scope="module")
def engine() -> Iterator[ForkEngine]:
    made = ForkEngine()
    yield made
    made.close()


class Echo:
    @lm.method()
    def echo(self, x: Any) -> Any:
        return x

    @lm.method()
    def pid(self) -> int:
        return os.getpid()


def long_winded(name: str) -> Callable[[Any], None]:
    def hook(self: Any) -> None:
        raise ValueError(name + "x" * (2 << 20))

    hook.__name__ = name
    return lm.exit()(hook)


class Complains(Echo):
    """So much that its report is longer than a control line may be."""

    for _number in range(80):
        vars()[f"hook_{_number}"] = long_winded(f"hook_{_number}")

    @lm.exit()
    def last(self) -> None:
        pass


def test_long_errors_of_many_exit_hooks_are_all_reported(engine: ForkEngine) -> None:
    with Forked(engine, Complains) as work:
        assert work.echo.remote(1) == 1
    [container] = work.made
    assert container.state is State.EXITED
    assert container.cause.report is not None
    *failed, last = container.cause.report.hooks
    assert [one.hook for one in failed] == [f"hook_{number}" for number in range(80)]
    assert (last.hook, last.error) == ("last", None)
    for one in failed:
        assert one.error is not None
        assert len(one.error) < MAX_TRACEBACK_CHARS + 100
        assert f"ValueError: {one.hook}xxx" in one.error
        assert one.error.rstrip().endswith("xxx")


def test_a_report_that_can_not_be_stored_is_still_shown(engine: ForkEngine) -> None:
    with Forked(engine, Echo) as work:
        assert work.echo.remote(1) == 1
        shutil.rmtree(work.made[0].plan.launch.run_dir)
    assert work.made[0].state is State.EXITED
    assert work.made[0].cause.report is not None


def test_an_obituary_does_not_repeat_itself(engine: ForkEngine) -> None:
    with Forked(engine, Echo) as work:
        os.kill(work.pid.remote(), signal.SIGSTOP)  # so that it can't leave
        [container] = work.made
        container.end(Ending(EndKind.DRAIN, "it is over"))
        container.end(Ending(EndKind.KILL, ""), wait=True)
        assert container.exited.wait(20)
    told = container.explain_exit()
    assert told == "it was killed from outside, or its engine stopped, " + (
        "while it was stopping (it is over)"
    )
    assert container.history[-1].endswith(f": {told}")


class Stray(Echo):
    """Sends frames of its own, as code would that writes to a descriptor it does not own."""

    @lm.method()
    def stray(self, kind: int, payload: bytes) -> str:
        from lifecycle_magic.guest.output import current_lane

        lane = current_lane.get()
        assert lane is not None
        lane.channel.send(kind, payload)
        return "real"

    @lm.method()
    def strays(self, kind: int, payload: bytes) -> Iterator[str]:
        self.stray(kind, payload)
        yield "real"


WRONG = [
    (Kind.READY, b""),
    (Kind.OUTPUT, b"junk"),
    (Kind.FAILURE, b"junk"),
    (Kind.FAILURE, pickle.dumps("no failure")),
    (99, b"x"),
]


@pytest.mark.parametrize(
    ("way", "kind", "payload"),
    [("remote", *one) for one in WRONG]
    + [(way, *one) for way in ("spawn", "map", "generator") for one in WRONG[1:3]],
)
def test_a_frame_that_no_worker_sends_is_no_answer_and_its_slot_is_not_used_again(
    engine: ForkEngine, way: str, kind: int, payload: bytes
) -> None:
    with Forked(engine, Stray) as work:
        ways = {
            "remote": lambda: work.stray.remote(kind, payload),
            "spawn": lambda: work.stray.spawn(kind, payload).get(),
            "map": lambda: list(work.stray.starmap([(kind, payload)])),
            "generator": lambda: list(work.strays.remote_gen(kind, payload)),
        }
        with pytest.raises((WireError, ContainerDied), match=r"connection broke|and is replaced"):
            ways[way]()
        assert [work.echo.remote(number) for number in range(3)] == [0, 1, 2]
        first, second = work.made
    assert first.cause.kill_reason.startswith("its connection broke: ")
    assert second.state is State.EXITED
    assert second.cause.kill_reason == ""


@pytest.mark.parametrize(("kind", "payload"), WRONG[1:])  # READY is what enter ends with
def test_a_frame_that_no_worker_sends_in_enter_ends_the_start(
    engine: ForkEngine, kind: int, payload: bytes
) -> None:
    class Strays(Stray):
        @lm.enter()
        def load(self) -> None:
            self.stray(kind, payload)

    with Forked(engine, Strays) as work:
        with pytest.raises(WireError, match="and is replaced"):
            work.echo.remote(1)
        assert work.made[0].exited.wait(20)


class Fails(Echo):
    """A class whose start fails in the given way."""

    def __init__(self, how: str) -> None:
        if how == "exit in __init__":
            sys.exit(3)
        self.how = how

    @lm.enter()
    def load(self) -> None:
        if self.how == "exit in enter":
            sys.exit(3)
        raise ValueError("no weights")


def test_an_enter_that_fails_fails_each_call_in_the_same_way(engine: ForkEngine) -> None:
    with Forked(engine, Fails, "") as work:
        for _ in range(5):
            with pytest.raises(ValueError, match="no weights"):
                work.echo.remote(1)
            assert work.made[-1].exited.wait(20)


@pytest.mark.parametrize("how", ["exit in __init__", "exit in enter"])
def test_sys_exit_at_the_start_is_reported_as_such(engine: ForkEngine, how: str) -> None:
    with Forked(engine, Fails, how) as work:
        with pytest.raises(SystemExit) as left:
            work.echo.remote(1)
        with pytest.raises(RemoteError, match=r"sys\.exit.*\(code 3\)") as failed:
            asyncio.run(work.echo.remote.aio(1))
    assert left.value.code == failed.value.code == 3
    [note] = left.value.__notes__
    for told in (note, str(failed.value)):
        assert "so there is no container" in told
        assert "stays warm" not in told


class Interrupter:
    """Raises KeyboardInterrupt at the ``at``-th traced line of a pool and of `pending_start`."""

    files = tuple(
        one.__file__ for one in (crash_loop, pool, replacement, scale_down, swap, pending_start)
    )

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, frame: types.FrameType, event: str, arg: object) -> Interrupter | None:
        if event == "call":
            return self if frame.f_code.co_filename in self.files else None
        if event == "line":
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
        return self


@pytest.mark.parametrize("how", ["warm", "replace"])
def test_wherever_an_interrupt_of_a_start_comes_the_next_call_works(
    engine: ForkEngine, how: str
) -> None:
    steps = 0
    interrupted = True
    while interrupted:
        steps += 1
        with Forked(engine, Echo) as work:
            if how == "replace":
                work.pool.warm()
            interrupter = Interrupter(steps)
            before = sys.gettrace()
            sys.settrace(interrupter)
            try:
                work.pool.warm() if how == "warm" else replacement.replace([work.pool], "new code")
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(before)
            interrupted = interrupter.left <= 0
            assert work.echo.spawn(5).get(20) == 5
            assert len([one for one in work.made if one.state in WARM_STATES]) == 1
    assert steps > 10
