"""Processes that the user's code starts, with the real guest: see `fakes.forked`."""

from __future__ import annotations

import ast
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fakes.forked import Forked, ForkEngine

import lifecycle_magic as lm
from lifecycle_magic.lifecycle.states import State

pytestmark = pytest.mark.every_python


@pytest.fixture(scope="module")
def engine() -> Iterator[ForkEngine]:
    made = ForkEngine()
    yield made
    made.close()


HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1)


def seen_in_child(act: Any) -> Any:
    """Return the result of ``act`` in a process forked with os.fork."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, repr(act()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        told = pipe.read()
    os.waitpid(pid, 0)
    return ast.literal_eval(told.decode())  # eval would take all names of this module along


def descriptors() -> list[str]:
    """Return the targets of all open descriptors except the three standard ones."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += [os.readlink(f"/proc/self/fd/{name}")] if int(name) > 2 else []
    # A thread may have a library open for a moment, while it imports a module.
    return [one for one in found if not one.startswith("/proc/") and ".so" not in one]


class Parent:
    """Forks in every way that there is."""

    @lm.method()
    def handlers(self) -> list[bool]:
        defaults = [signal.SIG_DFL, signal.default_int_handler] + [signal.SIG_DFL] * 3
        seen = seen_in_child(
            lambda: [signal.getsignal(s) == d for s, d in zip(HANDLED, defaults, strict=True)]
        )
        return list(seen)

    @lm.method()
    def mask(self) -> list[int]:
        return list(seen_in_child(lambda: sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))))

    @lm.method()
    def inherited(self) -> list[str]:
        return list(seen_in_child(descriptors))

    @lm.method()
    async def inherited_in_a_coroutine(self) -> list[str]:
        return list(seen_in_child(descriptors))

    @lm.method()
    def pools(self, times: int) -> int:
        total = 0
        for _ in range(times):
            with multiprocessing.get_context("fork").Pool(2) as pool:
                total += sum(pool.map(abs, [-1, -2]))
        return total

    @lm.method()
    def terminated(self, times: int) -> list[int | None]:
        codes = []
        for _ in range(times):
            process = multiprocessing.get_context("fork").Process(target=signal.pause)
            process.start()
            process.terminate()
            process.join()
            codes.append(process.exitcode)
        return codes

    @lm.method()
    def preexec(self) -> int:
        process = subprocess.Popen(["sleep", "600"], preexec_fn=os.getpid)
        process.terminate()
        return process.wait()

    @lm.method()
    def own_handler(self) -> bool:
        """A handler of the user's own is inherited, as in plain Python."""

        def handler(*_: object) -> None: ...

        before = signal.signal(signal.SIGTERM, handler)
        try:
            return bool(seen_in_child(lambda: signal.getsignal(signal.SIGTERM) is handler))
        finally:
            signal.signal(signal.SIGTERM, before)

    @lm.method()
    def returns_twice(self, how: str) -> int:
        """Let a child continue with the method; return the child's exit code."""
        pid = os.fork()
        if pid:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if how == "exits":
            sys.exit(5)
        if how == "raises":
            raise ValueError("in the child")
        return -1

    @lm.method()
    def prints_in_child(self) -> None:
        process = multiprocessing.get_context("fork").Process(target=print, args=("from a child",))
        process.start()
        process.join()

    @lm.method()
    def pid(self) -> int:
        return os.getpid()


@pytest.fixture(scope="module")
def parent(engine: ForkEngine) -> Iterator[Forked]:
    with Forked(engine, Parent) as work:
        yield work
    assert [one.state for one in work.made] == [State.EXITED]


def test_a_forked_child_has_the_handlers_of_a_fresh_python(parent: Forked) -> None:
    assert parent.handlers.remote() == [True] * len(HANDLED)
    assert parent.mask.remote() == []
    assert parent.own_handler.remote() is True


def test_a_forked_child_has_no_descriptor_of_the_worker(parent: Forked) -> None:
    assert len(set(parent.inherited.remote())) == 1  # the pipe of the method itself
    assert len(set(parent.inherited_in_a_coroutine.remote())) == 1


def test_pools_of_processes_end_every_time(parent: Forked) -> None:
    assert parent.pools.remote(50) == 150


def test_a_process_that_is_terminated_at_once_ends_every_time(parent: Forked) -> None:
    assert parent.terminated.remote(200) == [-signal.SIGTERM] * 200
    assert parent.preexec.remote() == -signal.SIGTERM


@pytest.mark.parametrize(("how", "code"), [("returns", 0), ("exits", 5), ("raises", 1)])
def test_a_child_that_leaves_the_method_ends_as_in_plain_python(
    parent: Forked, how: str, code: int
) -> None:
    pid = parent.pid.remote()
    assert parent.returns_twice.remote(how) == code
    assert parent.pid.remote() == pid


def test_what_a_child_prints_is_seen(parent: Forked, capfd: pytest.CaptureFixture[str]) -> None:
    # It comes through the supervisor, after the answer perhaps, while another call runs.
    parent.prints_in_child.remote()
    seen = ""
    while "from a child" not in seen:
        parent.pid.remote()
        seen += capfd.readouterr().out


@lm.concurrent(max_inputs=4)
class Threaded(Parent):
    """The same from threads, and from the loop."""


def test_threads_of_one_container_fork_at_the_same_time(engine: ForkEngine) -> None:
    with Forked(engine, Threaded) as work:
        pools = [work.pools.spawn(10) for _ in range(3)]
        codes = work.terminated.spawn(30).get()
        assert [call.get() for call in pools] == [30, 30, 30]
        # multiprocessing reaps for other threads as well, and then may not know the code.
        assert set(codes) <= {-signal.SIGTERM, None}
        assert len(set(work.inherited.remote())) == 1
        assert work.returns_twice.remote("exits") == 5
        assert work.returns_twice.remote("returns") == 0


# --- at the end ----------------------------------------------------------------------------------


class Keeps:
    """Has something left at its end that Python's own end takes care of."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def leave(self, name: str) -> None:
        (Path(self.folder) / name).touch()

    @lm.method()
    def keep(self, what: str) -> None:
        import atexit

        if what == "executor":
            self.executor = ProcessPoolExecutor(2)
            assert list(self.executor.map(abs, [-1, -2])) == [1, 2]
        elif what == "daemon":
            self.process = multiprocessing.Process(target=signal.pause, daemon=True)
            self.process.start()
        elif what == "threads":
            self.threads = threading.Thread(target=self.wait_for_exit)
            self.threads.start()
        elif what == "hangs":
            threading.Thread(target=threading.Event().wait, name="never").start()
        atexit.register(self.leave, "atexit")

    def wait_for_exit(self) -> None:
        while not (Path(self.folder) / "exit").exists():
            os.sched_yield()
        self.leave("thread")

    @lm.exit()
    def close(self) -> None:
        self.leave("exit")


@pytest.mark.parametrize("what", ["executor", "daemon", "threads", "nothing"])
def test_what_python_ends_at_its_end_is_ended(
    engine: ForkEngine, tmp_path: Path, what: str
) -> None:
    with Forked(engine, Keeps, str(tmp_path)) as work:
        work.keep.remote(what)
    [container] = work.made
    assert container.state is State.EXITED, container.explain_exit()
    expected = {"exit", "atexit"} | ({"thread"} if what == "threads" else set())
    assert {one.name for one in tmp_path.iterdir()} == expected


def test_a_thread_that_never_ends_is_named(engine: ForkEngine, tmp_path: Path) -> None:
    with Forked(engine, Keeps, str(tmp_path), exit_grace=0.5) as work:
        work.keep.remote("hangs")
    [container] = work.made
    assert container.state is State.FAILED
    assert "exit ended" in container.explain_exit()
    assert "thread never" in container.explain_exit()
    assert [one.hook for one in container.cause.report.hooks] == ["close"]  # type: ignore[union-attr]
