"""Interrupts of calls, with the real guest: see `fakes.forked`."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import pytest
from fakes.forked import Forked, ForkEngine

import lifecycle_magic as lm
from lifecycle_magic.exception import ContainerDied, InputCancelled, RemoteError
from lifecycle_magic.lifecycle.states import State

pytestmark = pytest.mark.every_python


@pytest.fixture(scope="module")
def engine() -> Iterator[ForkEngine]:
    made = ForkEngine()
    yield made
    made.close()


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    with contextlib.suppress((FileNotFoundError, ProcessLookupError)):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


def wait_until_gone(pid: int) -> None:
    while is_alive(pid):
        os.sched_yield()


def tell(path: str, pid: int | None = None) -> None:
    """Have the test know that a process runs. Both sides of the FIFO wait for each other."""
    with open(path, "w") as pipe:
        pipe.write(str(pid or os.getpid()))


SLEEPER = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"


def sleeper(path: str) -> list[str]:
    """Return a command that reports its pid at ``path`` and sleeps."""
    return [sys.executable, "-c", SLEEPER, path]


def tell_and_sleep(path: str) -> None:
    tell(path)
    time.sleep(600)


class Starts:
    """Has children of ``enter``, of a call that is over, and of the one that runs."""

    def __init__(self, path: str) -> None:
        self.path = path

    @lm.enter()
    def load(self) -> None:
        self.server = subprocess.Popen(["sleep", "600"])
        os.system("sleep 600 & echo $! > " + self.path + ".native")
        self.pool = multiprocessing.get_context("fork").Pool(1)
        self.caught: list[str] = []

    @lm.method()
    def of_enter(self) -> list[int]:
        native = int(Path(self.path + ".native").read_text())
        worker = self.pool._pool[0].pid  # type: ignore[attr-defined]
        return [os.getpid(), self.server.pid, native, worker]

    @lm.method()
    def start(self) -> int:
        self.kept = subprocess.Popen(["sleep", "600"])
        return self.kept.pid

    @lm.method()
    def run(self, how: str) -> str:
        path = self.path
        if how == "run":
            subprocess.run(sleeper(path), check=False)
        elif how == "wait":
            subprocess.Popen(sleeper(path)).wait()
        elif how == "system":
            os.system(shlex.join(sleeper(path)))
            time.sleep(600)
        elif how == "posix_spawn":
            os.waitpid(os.posix_spawn(sys.executable, sleeper(path), os.environ), 0)
        elif how == "c":
            ctypes.CDLL(None).popen(shlex.join(sleeper(path)).encode(), b"w")
            time.sleep(600)
        elif how == "pipeline":
            subprocess.run(shlex.join(sleeper(path)) + " | cat", shell=True, check=False)
        elif how == "pool":
            with multiprocessing.get_context("fork").Pool(1) as pool:
                pool.apply(subprocess.call, [sleeper(path)])
        elif how == "fork":
            pid = os.fork()
            if pid == 0:
                with contextlib.suppress(KeyboardInterrupt):
                    tell_and_sleep(path)
                os._exit(0)
            os.waitpid(pid, 0)
        elif how == "thread":
            thread = threading.Thread(target=subprocess.run, args=(sleeper(path),))
            thread.start()
            thread.join()
        elif how == "spawn":
            process = multiprocessing.get_context("spawn").Process(
                target=os.system, args=(f"echo $$ > {path}; exec sleep 600",)
            )
            process.start()
            process.join()
        return "ended"

    @lm.method()
    async def run_async(self) -> None:
        process = await asyncio.create_subprocess_exec(*sleeper(self.path))
        await process.wait()

    @lm.method()
    def own_session(self) -> None:
        subprocess.run(sleeper(self.path), start_new_session=True, check=False)

    @lm.method()
    def twice(self) -> None:
        """Needs two interrupts."""
        try:
            tell_and_sleep(self.path)
        except KeyboardInterrupt:
            self.caught.append("first")
            tell_and_sleep(self.path)

    @lm.method()
    def heard(self) -> list[str]:
        return self.caught


@pytest.fixture(scope="module")
def fifo(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("told") / "pid")
    os.mkfifo(path)
    return path


@pytest.fixture(scope="module")
def work(engine: ForkEngine, fifo: str) -> Iterator[Forked]:
    with Forked(engine, Starts, fifo, max_containers=1) as made:
        yield made
        assert len(made.made) == 1  # whatever was interrupted, it stayed warm


class Enters(Starts):
    """Waits in ``enter`` until the test lets it go on."""

    @lm.enter()
    def wait(self) -> None:
        tell(self.path)
        Path(self.path).read_text()


@pytest.mark.parametrize("how", ["wait", "posix_spawn", "fork", "pipeline"])
def test_a_report_of_enter_that_is_read_late_spares_nothing_of_the_first_call(
    engine: ForkEngine, tmp_path: Path, how: str
) -> None:
    path = str(tmp_path / "pid")
    os.mkfifo(path)
    with Forked(engine, Enters, path, max_containers=1) as work:
        call = work.run.spawn(how)
        Path(path).read_text()
        supervisor = int(work.made[0].id or 0)
        os.kill(supervisor, signal.SIGSTOP)  # as on a machine that has no time for it
        tell(path)
        child = int(Path(path).read_text())
        call.cancel()
        os.kill(supervisor, signal.SIGCONT)
        wait_until_gone(child)
        kept = work.of_enter.remote()
        assert [is_alive(pid) for pid in kept] == [True] * len(kept)


HOW = [
    *("run", "wait", "system", "posix_spawn", "c"),
    *("pipeline", "pool", "fork", "thread", "spawn"),
]


@pytest.mark.parametrize("how", HOW)
def test_an_interrupt_reaches_what_the_call_started_and_nothing_else(
    work: Forked, fifo: str, how: str
) -> None:
    kept = [*work.of_enter.remote(), work.start.remote()]
    call = work.run.spawn(how)  # at once: in the same hundredth of a second
    child = int(Path(fifo).read_text())
    call.cancel()
    wait_until_gone(child)
    assert work.of_enter.remote() == kept[:-1]
    assert [is_alive(pid) for pid in kept] == [True] * len(kept)
    os.kill(kept[-1], signal.SIGKILL)


@pytest.mark.parametrize("how", ["wait", "c", "pool"])
def test_an_interrupt_that_is_long_on_its_way_reaches_what_the_call_started(
    work: Forked, fifo: str, how: str
) -> None:
    work.of_enter.remote()
    supervisor = int(work.made[0].id or 0)
    os.kill(supervisor, signal.SIGSTOP)  # as on a machine that has no time for it
    call = work.run.spawn(how)
    child = int(Path(fifo).read_text())
    call.cancel()
    passed = threading.Event()
    work.event_loop.call_later(0.5, passed.set)  # longer than the call has run
    assert passed.wait(60)
    os.kill(supervisor, signal.SIGCONT)
    wait_until_gone(child)
    assert all(map(is_alive, work.of_enter.remote()))


def test_an_interrupt_of_a_coroutine_reaches_its_child(work: Forked, fifo: str) -> None:
    call = work.run_async.spawn()
    child = int(Path(fifo).read_text())
    call.cancel()
    wait_until_gone(child)
    assert all(map(is_alive, work.of_enter.remote()))


def test_a_child_in_a_session_of_its_own_is_left_to_its_parent(work: Forked, fifo: str) -> None:
    call = work.own_session.spawn()
    child = int(Path(fifo).read_text())
    call.cancel()
    wait_until_gone(child)  # killed by subprocess.run, which the interrupt ended


def test_a_second_interrupt_is_one_more_for_the_method(
    work: Forked, fifo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main = threading.main_thread().ident
    assert main is not None

    def press_twice() -> None:
        for _ in range(2):
            Path(fifo).read_text()
            signal.pthread_kill(main, signal.SIGINT)

    presses = threading.Thread(target=press_twice)
    presses.start()
    with pytest.raises(KeyboardInterrupt):
        work.twice.remote()
    presses.join()
    assert work.heard.remote() == ["first"]
    assert "replaced" not in capsys.readouterr().err


# --- several calls at once, and calls that do not stop -------------------------------------------


@lm.concurrent(max_inputs=3)
class Several:
    def __init__(self, folder: str) -> None:
        self.folder = folder

    @lm.method()
    def child(self, name: str) -> str:
        try:
            subprocess.run(sleeper(f"{self.folder}/{name}"), check=False)
        except KeyboardInterrupt:
            return "interrupted"
        return "its child was interrupted"

    @lm.method()
    def posix_spawn(self, name: str) -> str:
        args = sleeper(f"{self.folder}/{name}")
        try:
            os.waitpid(os.posix_spawn(sys.executable, args, os.environ), 0)
        except KeyboardInterrupt:
            return "interrupted"
        return "its child was interrupted"

    @lm.method()
    def deaf(self, name: str) -> None:
        with contextlib.suppress(KeyboardInterrupt):  # from before the test may interrupt it
            tell(f"{self.folder}/{name}")
            while True:
                time.sleep(0.01)
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                while True:  # so that no interrupt finds it outside of this
                    time.sleep(0.01)

    @lm.method()
    def held(self, name: str) -> str:
        tell(f"{self.folder}/{name}")
        return Path(f"{self.folder}/{name}").read_text()

    @lm.method()
    def pid(self) -> int:
        return os.getpid()


@pytest.mark.parametrize("method", ["child", "posix_spawn"])
def test_of_several_calls_only_the_interrupted_one_loses_its_child(
    engine: ForkEngine, tmp_path: Path, method: str
) -> None:
    for name in ("a", "b"):
        os.mkfifo(tmp_path / name)
    with Forked(engine, Several, str(tmp_path), max_containers=1) as work:
        one, two = (getattr(work, method).spawn(name) for name in ("a", "b"))
        child, other = (int((tmp_path / name).read_text()) for name in ("a", "b"))
        one.cancel()
        wait_until_gone(child)
        work.pid.remote()
        assert is_alive(other)
        os.kill(other, signal.SIGKILL)
        assert two.get() == "its child was interrupted"


def test_a_call_that_does_not_stop_waits_for_the_others_of_its_container(
    engine: ForkEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("deaf", "held"):
        os.mkfifo(tmp_path / name)
    with Forked(engine, Several, str(tmp_path), max_containers=2) as work:
        deaf, held = work.deaf.spawn("deaf"), work.held.spawn("held")
        for name in ("deaf", "held"):
            (tmp_path / name).read_text()
        [old] = work.made
        deaf.cancel()
        while old.state is not State.DRAINING:
            os.sched_yield()
        assert is_alive(int(old.id or 0))
        assert work.pid.remote() > 0  # in another one
        (tmp_path / "held").write_text("done")
        assert held.get() == "done"
        assert old.exited.wait(20)
    assert "did not stop within 5 s of its interrupt" in capsys.readouterr().err


# --- the end of the app ---------------------------------------------------------------------------


class Ends:
    def __init__(self, folder: str) -> None:
        self.folder = folder

    @lm.method()
    def block(self, how: str) -> None:
        try:
            self.told_and_slept(how)
        finally:
            (Path(self.folder) / "unwound").touch()

    def told_and_slept(self, how: str) -> None:
        if how == "never":
            with contextlib.suppress(KeyboardInterrupt):  # from before the test may interrupt it
                tell(f"{self.folder}/pid")
                time.sleep(600)
        else:
            tell(f"{self.folder}/pid")
        while how == "never":
            try:
                while True:
                    with contextlib.suppress(KeyboardInterrupt):
                        time.sleep(600)
            except KeyboardInterrupt:
                continue  # it came between two sleeps
        while True:
            try:
                time.sleep(600)
            except KeyboardInterrupt:
                if how == "once":
                    raise
                how = "once" if how == "twice" else how

    @lm.method()
    def count(self) -> Iterator[bytes]:
        while True:
            yield bytes(100_000)

    @lm.exit()
    def close(self) -> None:
        (Path(self.folder) / "exit").touch()


@pytest.mark.parametrize("how", ["once", "twice"])
def test_the_end_cancels_calls_and_runs_exit(engine: ForkEngine, tmp_path: Path, how: str) -> None:
    os.mkfifo(tmp_path / "pid")
    with Forked(engine, Ends, str(tmp_path)) as work:
        call = work.block.spawn(how)
        (tmp_path / "pid").read_text()
    with pytest.raises(InputCancelled, match="the test is over"):
        call.get()
    assert {one.name for one in tmp_path.iterdir()} == {"pid", "unwound", "exit"}
    assert work.made[0].state is State.EXITED


def test_a_call_that_ignores_two_interrupts_is_killed_at_the_end(
    engine: ForkEngine, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pid")
    with Forked(engine, Ends, str(tmp_path)) as work:
        call = work.block.spawn("never")
        (tmp_path / "pid").read_text()
    with pytest.raises(ContainerDied, match="did not stop within 5 s, so exit could not run"):
        call.get()


def test_the_end_closes_a_generator_that_is_read_by_half(
    engine: ForkEngine, tmp_path: Path
) -> None:
    with Forked(engine, Ends, str(tmp_path)) as work:
        items = work.count.remote_gen()
        next(items)
    assert (tmp_path / "exit").exists()
    with pytest.raises(InputCancelled, match="the test is over"):
        list(items)


# --- signals to the first process -----------------------------------------------------------------

ENDING = [
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT),
    *(signal.SIGBUS, signal.SIGFPE, signal.SIGUSR1, signal.SIGSEGV, signal.SIGUSR2, signal.SIGALRM),
    *(signal.SIGTERM, 16, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO, signal.SIGPWR),
    *(signal.SIGSYS, signal.SIGXCPU, signal.SIGXFSZ, signal.SIGRTMIN, 37, 40, 63, signal.SIGRTMAX),
]


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_that_would_end_the_first_process_has_exit_run(
    engine: ForkEngine, tmp_path: Path, number: int
) -> None:
    with Forked(engine, Ends, str(tmp_path)) as work:
        next(work.count.remote_gen())
        [container] = work.made
        os.kill(int(container.id or 0), number)
        assert container.exited.wait(20)
    assert container.state is State.EXITED
    assert (tmp_path / "exit").exists()
    name = {37: "SIGRTMIN+3", 40: "SIGRTMIN+6", 63: "SIGRTMIN+29", 16: _STACK_FAULT}.get(number)
    assert (
        f"stopped from outside ({name or signal.Signals(number).name})" in container.explain_exit()
    )


_STACK_FAULT = "SIGSTKFLT" if hasattr(signal, "SIGSTKFLT") else "signal 16"  # Python 3.10


@pytest.mark.parametrize("number", [signal.SIGPIPE, signal.SIGCHLD, signal.SIGWINCH])
def test_other_signals_do_not_end_the_first_process(
    engine: ForkEngine, tmp_path: Path, number: int
) -> None:
    with Forked(engine, Several, str(tmp_path)) as work:
        pid = work.pid.remote()
        os.kill(int(work.made[0].id or 0), number)
        assert work.pid.remote() == pid


@pytest.mark.parametrize("number", [37, 40, 63, signal.SIGHUP, signal.SIGSEGV])
def test_a_worker_that_dies_of_any_signal_leaves_a_report(
    engine: ForkEngine, tmp_path: Path, number: int
) -> None:
    os.mkfifo(tmp_path / "pid")
    with Forked(engine, Ends, str(tmp_path)) as work:
        call = work.block.spawn("once")
        (tmp_path / "pid").read_text()
        [container] = work.made
        os.kill(engine.worker(container.id or ""), number)
        with pytest.raises(ContainerDied, match="its worker died of SIG"):
            call.get()
    assert container.cause.report is not None
    assert f"(exit code {128 + number})" in container.explain_exit()


class Scribbles:
    @lm.method()
    def note(self, text: str) -> None:
        """Write an invalid note to the supervisor, as user code that writes anywhere might."""
        sys.stdout._prints._pipe._lines.append(text.encode() + b"\n")  # type: ignore[attr-defined]
        print("after")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"note": "print", "text": 5}', '{"note": []}'])
def test_a_note_that_makes_no_sense_is_lost_and_nothing_else(engine: ForkEngine, text: str) -> None:
    with Forked(engine, Scribbles) as work:
        work.note.remote(text)
    assert work.made[0].state is State.EXITED


def test_interrupts_of_many_children_at_once(work: Forked, fifo: str) -> None:
    """One after the other, each in the hundredth of a second in which the one before ended."""
    for _ in range(10):
        call = work.run.spawn("wait")
        child = int(Path(fifo).read_text())
        call.cancel()
        wait_until_gone(child)
    assert all(map(is_alive, work.of_enter.remote()))


OWN_SIGNALS = """
import os, signal
from lifecycle_magic.guest.interrupts import SIGNAL, InterruptHandler, InterruptTarget
from lifecycle_magic.guest.interrupts import request_interrupt

reads, writes = os.pipe()
interrupts = InterruptHandler(reads)
target = InterruptTarget(interrupts)
target.current = 7

def raises(number):
    try:
        os.kill(os.getpid(), number)
    except KeyboardInterrupt:
        return True
    return False

request_interrupt(writes, 1)
request_interrupt(writes, 2)
print(*map(raises, [SIGNAL, SIGNAL, signal.SIGINT, SIGNAL, signal.SIGINT]))
"""


def test_a_sigint_is_the_methods_own_whatever_ids_were_read() -> None:
    """Two calls that have not begun are interrupted; their signals come one after the other."""
    done = subprocess.run([sys.executable, "-c", OWN_SIGNALS], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False False True False True\n", "")


class OfItsOwn:
    """Is interrupted by its own code."""

    @lm.method()
    def raises(self) -> None:
        raise KeyboardInterrupt("enough")

    @lm.method()
    def signals(self) -> None:
        signal.raise_signal(signal.SIGINT)

    @lm.method()
    async def raises_later(self) -> None:
        raise KeyboardInterrupt("later")

    @lm.method()
    def yields(self) -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt("in between")

    @lm.method()
    def waits(self, path: str) -> None:
        tell(path)
        time.sleep(600)

    @lm.method()
    def pid(self) -> int:
        return os.getpid()


def test_an_interrupt_of_the_method_s_own_is_a_keyboard_interrupt(engine: ForkEngine) -> None:
    with Forked(engine, OfItsOwn, max_containers=1) as work:
        pid = work.pid.remote()
        with pytest.raises(KeyboardInterrupt, match="enough"):
            work.raises.remote()
        with pytest.raises(KeyboardInterrupt):
            work.signals.remote()
        with pytest.raises(KeyboardInterrupt, match="enough"):
            work.raises.spawn().get()
        with pytest.raises(KeyboardInterrupt, match="later"):
            work.raises_later.remote()
        items = work.yields.remote_gen()
        assert next(items) == 1
        with pytest.raises(KeyboardInterrupt, match="in between"):
            next(items)
        assert work.pid.remote() == pid


def test_where_it_is_awaited_or_mapped_it_ends_no_loop(engine: ForkEngine) -> None:
    with Forked(engine, OfItsOwn, max_containers=1) as work:
        pid = work.pid.remote()
        with pytest.raises(RemoteError, match="raised KeyboardInterrupt: enough"):
            asyncio.run(work.raises.remote.aio())
        with pytest.raises(RemoteError, match="raised KeyboardInterrupt: later"):
            asyncio.run(work.raises_later.remote.aio())
        assert work.pid.remote() == pid


def test_one_that_was_asked_for_after_an_own_one_is_a_cancellation(
    engine: ForkEngine, tmp_path: Path
) -> None:
    path = tmp_path / "told"
    os.mkfifo(path)
    with Forked(engine, OfItsOwn, max_containers=1) as work:
        with pytest.raises(KeyboardInterrupt):
            work.signals.remote()
        call = work.waits.spawn(str(path))
        path.read_text()
        call.cancel()
        with pytest.raises(InputCancelled):
            call.get()
        with pytest.raises(KeyboardInterrupt, match="enough"):
            work.raises.remote()


INTERRUPTED = """
import os, signal
os.kill(os.getpid(), signal.SIGINT)
for _ in range(1000):
    pass
whole = True
"""


class Imports:
    """Is interrupted while a module is imported, by a statement of this package or of the user."""

    @lm.method()
    def go(self, folder: str, by_package: bool) -> tuple[bool, bool]:
        sys.path.insert(0, folder)
        by = os.path.join(os.path.dirname(lm.__file__), "made_up.py") if by_package else "own.py"
        try:
            try:
                # exec would take all names of this module along.
                FunctionType(compile("import interrupted", by, "exec"), {})()
                while True:  # on another thread, an interrupt waits for a bytecode
                    time.sleep(0.01)
            except KeyboardInterrupt:
                was_interrupted = True
        finally:
            sys.path.remove(folder)
        return was_interrupted, hasattr(sys.modules.pop("interrupted", None), "whole")


@lm.concurrent(max_inputs=2)
class ImportsOnThreads(Imports):
    """The same on another thread than the main one."""


@pytest.mark.parametrize("cls", [Imports, ImportsOnThreads])
def test_an_import_of_this_package_is_not_interrupted(
    engine: ForkEngine, tmp_path: Path, cls: type
) -> None:
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    with Forked(engine, cls) as work:
        assert work.go.remote(str(tmp_path), True) == (True, True)
        if cls is Imports:  # on another thread, the interrupt may come after the import
            assert work.go.remote(str(tmp_path), False) == (True, False)
        assert work.go.remote(str(tmp_path), True) == (True, True)
