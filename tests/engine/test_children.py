"""Processes that methods start: as in plain Python, on each engine."""

from __future__ import annotations

import ast
import contextlib
import multiprocessing
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import docker
import pytest
from engine.work import Folder, Site, Work

import lifecycle_magic as lm
from lifecycle_magic.images.image import Image
from lifecycle_magic.session import session


class Parent:
    def __init__(self, path: str) -> None:
        self.folder = Folder(path)

    @lm.enter()
    def load(self) -> None:
        self.server = subprocess.Popen(["sleep", "600"])

    @lm.method()
    def pools(self, times: int) -> int:
        total = 0
        for _ in range(times):
            with multiprocessing.Pool(2) as pool:
                total += sum(pool.map(abs, [-1, -2]))
        return total

    @lm.method()
    def terminated(self, times: int) -> set[Any]:
        codes = set()
        for _ in range(times):
            process = multiprocessing.Process(target=signal.pause)
            process.start()
            process.terminate()
            process.join()
            codes.add(process.exitcode)
        return codes

    @lm.method()
    def joblib(self) -> list[int]:
        from joblib import Parallel, delayed  # type: ignore[import-untyped]

        return list(Parallel(n_jobs=2)(delayed(abs)(-n) for n in range(10)))

    @lm.method()
    def leave(self) -> list[int]:
        """Leave an executor, a daemon and joblib's workers to the end."""
        self.executor = ProcessPoolExecutor(2)
        self.daemon = multiprocessing.Process(target=signal.pause, daemon=True)
        self.daemon.start()
        return list(self.executor.map(abs, [-1, -2]))

    @lm.method()
    def block(self, how: str) -> None:
        self.folder.note(f"began-{how}")
        if how == "system":
            os.system("sleep 600")
        else:
            subprocess.run(["sleep", "600"], check=False)

    @lm.method()
    def alive(self) -> tuple[int, bool, int]:
        """This process, whether its server runs, and how many others do."""
        sleeping = 0
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                group = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[2])
                command = Path(f"/proc/{name}/cmdline").read_text().split("\x00")
                sleeping += command[:2] == ["sleep", "600"] and group == os.getpgid(0)
        return os.getpid(), self.server.poll() is None, sleeping - 1

    @lm.exit()
    def close(self) -> None:
        self.folder.note("exit")


def test_children_are_as_in_plain_python(site_on_each: Site) -> None:
    site = site_on_each
    image = Image.debian_slim().pip_install("joblib")
    parent = site.instance(Parent, image=image, max_containers=1, exit_grace=10)
    before = parent.alive.remote()
    assert before[1:] == (True, 0)
    assert parent.pools.remote(20) == 60
    assert parent.terminated.remote(40) == {-signal.SIGTERM}
    assert parent.joblib.remote() == list(range(10))
    for how in ("system", "run"):
        call = parent.block.spawn(how)
        site.folder.wait(f"began-{how}")
        call.cancel()
        assert parent.alive.remote() == before
    assert parent.leave.remote() == [1, 2]
    [container] = session.current().containers()
    site.app.stop()
    assert container.exited.wait(60)
    assert container.cause.report is not None
    assert container.cause.report.in_order, container.explain_exit()
    assert site.folder.count("exit") == 1


@pytest.mark.docker
def test_every_signal_to_process_1_has_exit_run(
    need_docker: docker.DockerClient, tmp_path: Path
) -> None:
    numbers = [signal.SIGINT, signal.SIGSEGV, signal.SIGHUP, signal.SIGRTMIN + 3]
    site = Site(lm.App("signals", engine="docker"), tmp_path)
    try:
        for count, number in enumerate(numbers):
            site.instance(Work).who.remote()
            [container] = session.current().containers()
            need_docker.containers.get(container.id).kill(int(number))
            assert container.exited.wait(60)
            assert site.folder.count("exit") == count + 1
            assert "stopped from outside (SIG" in container.explain_exit()
    finally:
        session.close("the test is over")


def seen_in_child(act: Callable[[], Any]) -> Any:
    """What ``act`` returns in a process that is forked off this one."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            os.write(writer, repr(act()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        told = pipe.read()
    os.waitpid(pid, 0)
    return ast.literal_eval(told)


def descriptors() -> dict[int, str]:
    """The open descriptors and what each leads to, but for the pipe to the parent."""
    links = {}
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            links[number] = os.readlink(f"/proc/self/fd/{number}")
    return {number: link for number, link in links.items() if not link.startswith("pipe:")}


def handles_sigint() -> bool:
    return signal.getsignal(signal.SIGINT) is not signal.default_int_handler


def test_a_fork_of_the_kernel_has_nothing_of_ours(site: Site) -> None:
    before = seen_in_child(descriptors)
    work = site.instance(max_containers=1)
    assert work.echo.remote(bytearray(1 << 20)) == bytearray(1 << 20)
    assert list(work.echo.map([1, 2])) == [1, 2]
    assert work.echo.spawn(3).get() == 3
    # What earlier tests left may be closed by now.
    after = seen_in_child(descriptors)
    assert {number: link for number, link in after.items() if number not in before} == {}
    seen: list[bool] = []

    def fork_while_the_main_thread_calls() -> None:
        site.folder.wait("began-a")
        seen.append(seen_in_child(handles_sigint))
        site.go("a")

    thread = threading.Thread(target=fork_while_the_main_thread_calls)
    thread.start()
    assert work.hold.remote("a") == "a"
    thread.join()
    assert seen == [False]
    fork = multiprocessing.get_context("fork")
    for _ in range(20):
        with fork.Pool(2) as pool:
            assert pool.map(abs, [-1, -2]) == [1, 2]
        process = fork.Process(target=signal.pause)
        process.start()
        process.terminate()
        process.join()
        assert process.exitcode == -signal.SIGTERM
    assert work.who.remote() == work.who.remote()
