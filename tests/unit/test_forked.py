"""A pool and its containers, with the real guest: see `fakes.forked`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine.work import wait_for
from fakes.forked import Forked, ForkEngine

import lifecycle_magic as lm
from lifecycle_magic.calls.input import Input
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.exception import (
    BuildError,
    ContainerDied,
    InvalidError,
    StartError,
    WireError,
)
from lifecycle_magic.lifecycle.states import State
from lifecycle_magic.pool.crash_loop import MAX_CRASHES
from lifecycle_magic.pool.pool import Pool
from lifecycle_magic.pool.replacement import replace
from lifecycle_magic.pool.sizing import Limits
from lifecycle_magic.threads.event_loop import EventLoop
from lifecycle_magic.threads.sigint import run_forwarding
from lifecycle_magic.wire.frames import Kind

pytestmark = pytest.mark.every_python


@pytest.fixture(scope="module")
def engine() -> Iterator[ForkEngine]:
    made = ForkEngine()
    yield made
    made.close()


class Loud:
    """Leaves a file when it exits."""

    def __init__(self, left: str) -> None:
        self.left = left

    @lm.method()
    def shout(self, lines: int) -> None:
        """Print long lines on two threads at once, each longer than a pipe takes in one piece."""
        import sys
        import threading

        def write(out: Any) -> None:
            for _ in range(lines):
                out.write("x" * 30_000 + "\n")

        thread = threading.Thread(target=write, args=(sys.stderr,))
        thread.start()
        write(sys.stdout)
        thread.join()

    @lm.method()
    def break_the_notes(self) -> None:
        """As a child would that writes wherever it can."""
        import sys

        notes = sys.stdout._prints._pipe  # type: ignore[attr-defined]
        notes.send("print", stream="stdout")
        notes._lines.append(b"no note\n")
        notes.send("nothing")

    @lm.exit()
    def leave(self) -> None:
        from pathlib import Path

        Path(self.left).touch()


@pytest.mark.parametrize("how", ["shout", "break_the_notes"])
def test_whatever_is_printed_exit_runs(
    engine: ForkEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    left = tmp_path / "left"
    with Forked(engine, Loud, str(left)) as work:
        if how == "shout":
            work.shout.remote(100)
            printed = capsys.readouterr()
            assert printed.out == printed.err == ("x" * 30_000 + "\n") * 100
        else:
            work.break_the_notes.remote()
    assert left.exists()
    assert [one.cause.report.orderly for one in work.made if one.cause.report] == [True]


# --- new code under a live instance --------------------------------------------------------------


def meet(path: str) -> None:
    """Open a FIFO for writing: both sides wait for the other."""
    open(path, "w").close()


@lm.concurrent(max_inputs=2)
class Two:
    """A class that takes two inputs at once. Its results show which version of its code runs."""

    def said(self) -> str:
        return "old"

    @lm.method()
    def say(self) -> str:
        return self.said()

    @lm.method()
    def echo(self, number: int) -> int:
        return number

    @lm.method()
    def hold(self, path: str) -> list[str]:
        """Return the code's version at the start and after ``path`` is read."""
        first = self.said()
        meet(path)
        return [first, self.said()]

    @lm.method()
    def count(self, path: str) -> Iterator[str]:
        yield self.said()
        meet(path)
        yield self.said()


def edited(cls: type, **members: Any) -> type:
    """The class as its cell declares it after an edit of these members."""
    kept = {k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__")}
    return type(cls)(cls.__name__, cls.__bases__, {**kept, **members})


def new(self: Any) -> str:
    return "new"


TwoNew = edited(Two, said=new)


class One:
    """The same, one at a time."""

    said, say, echo, hold, count = Two.said, Two.say, Two.echo, Two.hold, Two.count


OneNew = edited(One, said=new)


class Late:
    """An argument that, when it is unpickled, blocks until ``path`` is read, and then forever."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return _late, (self.path,)


def _late(path: str) -> None:
    import signal

    meet(path)
    while True:
        signal.pause()


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def test_calls_in_flight_end_on_the_code_that_they_began_with(
    engine: ForkEngine, fifo: Path
) -> None:
    with Forked(engine, Two) as work:
        streamed = work.count.remote_gen(str(fifo))
        assert next(streamed) == "old"
        work.swap(TwoNew)
        later = work.say.spawn()  # there is room for it, but it is to see the new code
        fifo.read_text()
        assert list(streamed) == ["old"]
        assert later.get() == "new"
        running = work.hold.spawn(str(fifo))
        work.swap(Two)
        fifo.read_text()
        assert running.get() == ["new", "new"]
        assert work.say.remote() == "old"
        assert len(work.made) == 1


def test_a_generator_in_flight_ends_on_the_code_that_it_began_with(
    engine: ForkEngine, fifo: Path
) -> None:
    with Forked(engine, One) as work:
        streamed = work.count.remote_gen(str(fifo))
        assert next(streamed) == "old"
        work.swap(OneNew)
        fifo.read_text()
        assert list(streamed) == ["old"]
        assert work.say.remote() == "new"
        assert len(work.made) == 1


def test_other_containers_go_on_while_one_waits_for_its_new_code(
    engine: ForkEngine, tmp_path: Path
) -> None:
    fifos = [tmp_path / name for name in "abc"]
    for path in fifos:
        os.mkfifo(path)
    with Forked(engine, Two, max_containers=2) as work:
        running = [work.hold.spawn(str(path)) for path in fifos[:2]]
        wait_for(lambda: [one.running for one in work.pool.containers] == [2], "both in one")
        running.append(work.hold.spawn(str(fifos[2])))  # in another container
        fifos[2].read_text()
        assert running[2].get() == ["old", "old"]
        work.swap(TwoNew)
        assert work.say.remote() == "new"
        for path in fifos[:2]:
            path.read_text()
        assert [call.get() for call in running[:2]] == [["old", "old"]] * 2
        assert len(work.made) == 2


@pytest.mark.parametrize("deploying", [True, False])
def test_no_call_gets_the_answer_to_a_change_of_code_that_was_interrupted(
    engine: ForkEngine, fifo: Path, deploying: bool
) -> None:
    def interrupt() -> None:
        fifo.read_text()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with Forked(engine, One) as work:
        assert work.echo.remote(0) == 0
        threading.Thread(target=interrupt, daemon=True).start()

        def swap(cls: type) -> None:
            work.swap(cls, Late(fifo))

        def deploy(cls: type) -> None:
            run_forwarding(work.pool.interrupt_swap, swap, cls)

        with pytest.raises(KeyboardInterrupt):
            (deploy if deploying else swap)(OneNew)
        assert [work.echo.remote(number) for number in range(5)] == list(range(5))
        assert work.say.remote() == "new"
        assert len(work.made) == 2


def test_code_that_does_not_load_in_time_costs_the_container(
    engine: ForkEngine, fifo: Path
) -> None:
    with Forked(engine, One) as work:
        assert work.echo.remote(0) == 0
        work.made[0].plan = dataclasses.replace(work.made[0].plan, startup_timeout=0.1)
        threading.Thread(target=fifo.read_text, daemon=True).start()
        work.swap(OneNew, Late(fifo))
        assert work.say.remote() == "new"
        assert "did not load its new code" in work.made[0].explain_exit()


def test_an_answer_to_something_else_is_found_out(engine: ForkEngine) -> None:
    with Forked(engine, One) as work:
        assert work.echo.remote(0) == 0
        stray = Input(work.pool, "echo", ("stray",), {})
        work.made[0].slots[0].channel.send(Kind.CALL, stray.payload)
        with pytest.raises(WireError, match=r"One.echo got the answer of another input"):
            work.echo.remote(1)
        assert [work.echo.remote(number) for number in range(5)] == list(range(5))


# --- containers that go, and such that do not come ----------------------------------------------


class Leaves(One):
    """A class whose exit takes until the file at ``path`` is read."""

    def __init__(self, path: str) -> None:
        self.path = path

    @lm.method()
    def die(self, number: int) -> int:
        import os

        if number < 5:
            os._exit(3)
        return number

    @lm.exit()
    def leave(self) -> None:
        meet(self.path)


@pytest.mark.parametrize("how", ["drained", "stopped from outside"])
def test_a_call_that_waits_is_not_kept_by_an_exit_that_takes_long(
    engine: ForkEngine, tmp_path: Path, fifo: Path, how: str
) -> None:
    leaving = tmp_path / "leaving"
    os.mkfifo(leaving)
    with Forked(engine, Leaves, str(leaving)) as work:
        work.echo.remote(0)
        running = work.hold.spawn(str(fifo))
        waiting = work.echo.spawn(1)
        with fifo.open():  # it has begun
            if how == "drained":
                work.made[0].end(Ending(EndKind.DRAIN, "it is not needed"))
            else:
                os.kill(int(work.made[0].id or ""), signal.SIGTERM)
        assert waiting.get() == 1
        assert not work.made[0].exited.is_set()
        with contextlib.suppress(ContainerDied):  # where it was stopped in the middle
            running.get()
        threading.Thread(target=leaving.read_text, daemon=True).start()
        work.made[0].exited.wait(20)
        threading.Thread(target=leaving.read_text, daemon=True).start()


@pytest.mark.parametrize("way", ["spawn", "remote_gen", "map"])
@pytest.mark.parametrize("cls", [One, Two])
def test_an_input_that_a_dead_worker_had_not_begun_goes_to_another_container(
    engine: ForkEngine, tmp_path: Path, fifo: Path, way: str, cls: type
) -> None:
    with Forked(engine, cls) as work:
        assert work.echo.remote(0) == 0
        worker = engine.freeze_worker(work.made[0].id or "")
        if way == "spawn":
            call = work.echo.spawn(1)
            os.kill(worker, signal.SIGKILL)
            assert call.get() == 1
        elif way == "map":
            answers = work.echo.map([1, 2], progress=False)
            threading.Thread(target=kill_when_busy, args=(work, worker), daemon=True).start()
            assert list(answers) == [1, 2]
        else:
            threading.Thread(target=kill_when_busy, args=(work, worker), daemon=True).start()
            threading.Thread(target=fifo.read_text, daemon=True).start()
            assert list(work.count.remote_gen(str(fifo))) == ["old", "old"]
        assert len(work.made) == 2


def kill_when_busy(work: Forked, worker: int) -> None:
    while not work.made[0].running:
        os.sched_yield()
    os.kill(worker, signal.SIGKILL)


def test_inputs_that_end_their_container_do_not_end_a_map(engine: ForkEngine, fifo: Path) -> None:
    with Forked(engine, Leaves, str(fifo)) as work:
        answers = list(work.die.map(range(7), return_exceptions=True, progress=False))
        assert [type(answer) for answer in answers] == [ContainerDied] * 5 + [int] * 2
        work.pool.close("the test is over")
        fifo.read_text()


@pytest.mark.parametrize("error", [StartError, BuildError, InvalidError])
def test_a_start_that_fails_before_there_is_a_container_is_not_tried_for_ever(
    error: type[Exception],
) -> None:
    tried: list[Any] = []

    def make(on_exited: Any) -> Any:
        tried.append(on_exited)
        assert len(tried) < 100
        raise error("no such thing")

    event_loop = EventLoop("forked-event-loop")
    pool = Pool("Model", make, event_loop, limits=Limits(least=1))
    for _ in range(2):
        tried.clear()
        with pytest.raises(error):
            pool.warm()
        while starting := [t for t in threading.enumerate() if t.name == "Model-start"]:
            starting[0].join()
        assert len(tried) <= MAX_CRASHES
    event_loop.stop()


def test_who_interrupts_a_start_leaves_those_who_wait_to_another(
    engine: ForkEngine, fifo: Path
) -> None:
    class Enters:
        """A class whose first container never becomes ready."""

        def __init__(self, path: str) -> None:
            import signal
            from pathlib import Path

            first = Path(f"{path}-first")
            if not first.exists():
                first.touch()
                meet(path)
                while True:
                    signal.pause()

        @lm.method()
        def echo(self, number: int) -> int:
            return number

    with Forked(engine, Enters, str(fifo)) as work:
        waiting: list[lm.FunctionCall] = []

        def interrupt() -> None:
            fifo.read_text()
            waiting.append(work.echo.spawn(1))
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            work.pool.warm()
        assert waiting[0].get() == 1


def test_a_replacement_of_several_pools_is_whole_or_none(
    engine: ForkEngine, tmp_path: Path
) -> None:
    class Enters(One):
        def __init__(self, path: str) -> None:
            from pathlib import Path

            if Path(path).exists():
                raise OSError("no weights")

    broken = tmp_path / "broken"
    with (
        Forked(engine, Enters, str(tmp_path / "b")) as one,
        Forked(engine, Enters, str(broken)) as other,
    ):
        one.echo.remote(0)
        other.echo.remote(0)
        broken.touch()
        with pytest.raises(OSError, match="no weights"):
            replace([one.pool, other.pool], "there is new code")
        for work in (one, other):
            work.made[1].exited.wait(20)
        assert one.pool.containers == one.made[:1]
        assert other.pool.containers == other.made[:1]
        assert (one.echo.remote(1), other.echo.remote(2)) == (1, 2)
        broken.unlink()
        replace([one.pool, other.pool], "there is new code")
        for work in (one, other):
            work.made[0].exited.wait(20)
            assert work.made[0].state is State.EXITED
            assert work.echo.remote(3) == 3


# --- what a thread or a process may hold --------------------------------------------------------


def test_a_thread_that_blocks_the_only_slot_is_reported(engine: ForkEngine, fifo: Path) -> None:
    with Forked(engine, One) as work:
        streamed = work.count.remote_gen(str(fifo))
        assert next(streamed) == "old"
        with pytest.raises(InvalidError, match=r"One.echo would wait forever.*max_containers=2"):
            work.echo.remote(1)
        other = threading.Thread(target=work.echo.remote, args=(1,))
        other.start()  # which may well wait
        streamed.close()
        other.join()
        for first in work.count.remote_gen(str(fifo)):
            assert first == "old"
            break
        assert work.echo.remote(1) == 1  # though it may take a moment until the slot is free


@pytest.fixture
def few_files() -> Iterator[None]:
    """A process that may have hardly more open files than it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 50, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_files")
def test_many_inputs_at_once_get_the_open_files_that_they_need(engine: ForkEngine) -> None:
    @lm.concurrent(max_inputs=100)
    class Many:
        @lm.method()
        async def echo(self, number: int) -> int:
            return number

    with Forked(engine, Many) as work:
        assert work.echo.remote(1) == 1


def test_more_than_the_process_may_have_is_refused_by_name(engine: ForkEngine) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    @lm.concurrent(max_inputs=hard)
    class TooMany:
        @lm.method()
        def echo(self, number: int) -> int:
            return number

    with (
        Forked(engine, TooMany) as work,
        pytest.raises(StartError, match=r"ulimit.*max_inputs"),
    ):
        work.echo.remote(1)


def test_a_container_starts_in_a_process_with_many_open_files(engine: ForkEngine) -> None:
    """``select`` knows none above 1023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with Forked(engine, One) as work:
            assert work.echo.remote(1) == 1
    finally:
        for fd in opened:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
