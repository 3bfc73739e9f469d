"""Queues and dictionaries of the session, used from containers and from the notebook at once."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from engine.work import PATIENCE, Site, wait_for

import lifecycle_magic as lm
from lifecycle_magic.exception import ContainerDied, InputCancelled, NotFoundError
from lifecycle_magic.session import session

JOBS = lm.Queue.ephemeral()
SHARED = lm.Dict.ephemeral()


@dataclass
class Job:
    """A type that the items of a queue have."""

    number: int


def readers() -> int:
    """How many requests wait for an item."""
    return session.current().objects.waiting()


class Worker:
    """Uses a queue and a dictionary that it was given, and those of the module."""

    @lm.method()
    def double(self, jobs: Any, results: Any) -> int:
        count = 0
        while (job := jobs.get()) is not None:
            results[job.number] = Job(job.number * 2)
            count += 1
        return count

    @lm.method()
    def of_the_module(self) -> Any:
        SHARED["made"] = "inside"
        JOBS.put("from inside", partition="p")
        return SHARED.get("given"), JOBS.get(timeout=60), JOBS.len(partition="p")

    @lm.method()
    async def in_coroutines(self) -> Any:
        first = asyncio.ensure_future(JOBS.get.aio())
        await asyncio.sleep(0)
        await JOBS.put_many.aio([1, 2, 3])
        rest = [one async for one in JOBS.iterate.aio()]
        await SHARED.put.aio("async", 1)
        keys = [one async for one in SHARED.keys.aio()]
        return await first, rest, keys

    @lm.method()
    async def give_up(self) -> Any:
        try:
            await asyncio.wait_for(JOBS.get.aio(), 0.05)
        except asyncio.TimeoutError:
            return "gave up"

    @lm.method()
    def take(self) -> Any:
        return JOBS.get()

    @lm.method()
    def take_and_die(self) -> Any:
        import threading

        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return JOBS.get()

    @lm.method()
    def fail(self) -> Any:
        found = []
        for raising in (
            lambda: JOBS.get(timeout=0.01),
            lambda: lm.Queue.from_name("none such").get(),
            lambda: SHARED["none such"],
        ):
            try:
                raising()
            except Exception as error:
                found.append(type(error))
        return found

    @lm.method()
    def in_a_child(self) -> Any:
        pid = os.fork()
        if pid == 0:
            try:
                JOBS.put("from a child")
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        return JOBS.get(timeout=60)


@pytest.fixture
def worker(site_on_each: Site) -> Any:
    JOBS.clear(all=True)
    SHARED.clear()
    return site_on_each.app.cls(max_containers=3)(Worker)()


def test_containers_share_work_and_results_with_the_notebook(worker: Any) -> None:
    with lm.Queue.ephemeral() as jobs, lm.Dict.ephemeral() as results:
        calls = [worker.double.spawn(jobs, results) for _ in range(2)]
        jobs.put_many([Job(number) for number in range(50)])
        jobs.put_many([None, None])
        assert sum(call.get(PATIENCE) for call in calls) == 50
        assert dict(results.items()) == {number: Job(number * 2) for number in range(50)}


def test_globals_mean_the_same_object_on_both_sides(worker: Any) -> None:
    SHARED["given"] = "outside"
    call = worker.of_the_module.spawn()
    JOBS.put("to the inside")
    assert call.get(PATIENCE) == ("outside", "to the inside", 1)
    assert SHARED["made"] == "inside"
    assert JOBS.get(partition="p") == "from inside"


def test_coroutines_inside_wait_without_blocking(worker: Any) -> None:
    assert worker.in_coroutines.remote() == (1, [2, 3], ["async"])


def test_errors_inside_are_those_of_the_notebook(worker: Any) -> None:
    assert worker.fail.remote() == [queue.Empty, NotFoundError, KeyError]


def test_a_forked_child_has_a_connection_of_its_own(worker: Any) -> None:
    assert worker.in_a_child.remote() == "from a child"


def test_a_wait_that_ended_takes_nothing(worker: Any) -> None:
    assert worker.give_up.remote() == "gave up"
    call = worker.take.spawn()
    wait_for(lambda: readers() == 1, "the wait for an item")
    call.cancel()
    with pytest.raises(InputCancelled):
        call.get(PATIENCE)
    wait_for(lambda: readers() == 0, "the end of the wait")
    with pytest.raises(ContainerDied):
        worker.take_and_die.remote()
    wait_for(lambda: readers() == 0, "the end of the dead container's wait")
    JOBS.put("kept")
    assert worker.take.remote() == "kept"


SCRIPT = """
import os, sys, time
import lifecycle_magic as lm
folder, engine = sys.argv[1:]
jobs = lm.Queue.from_name("jobs", create_if_missing=True)
app = lm.App("owner", engine=engine)

@app.cls(volumes={folder: lm.Volume.from_path(folder)})
class Waiter:
    @lm.method()
    def wait(self):
        jobs.len()
        error = None
        while not os.path.exists(f"{folder}/raised"):
            # The kernel's end also interrupts the call, which may come before or after the error.
            try:
                if error is None:
                    open(f"{folder}/waits", "w").close()
                    jobs.get()
                with open(f"{folder}/raised.part", "w") as file:
                    file.write(f"{time.time()} {type(error).__name__} {error}")
                os.rename(f"{folder}/raised.part", f"{folder}/raised")
            except BaseException as other:
                error = error or other

with app.run():
    Waiter().wait.remote()
"""


def test_the_death_of_the_owner_raises_at_the_caller(
    engine_name: str, need_mounts: None, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), engine_name]
    with subprocess.Popen(command) as owner:
        wait_for(lambda: (tmp_path / "waits").exists(), "the call in the container")
        at = time.time()
        owner.kill()
    wait_for(lambda: (tmp_path / "raised").exists(), "the error in the container")
    when, name, *message = (tmp_path / "raised").read_text().split(" ")
    assert float(when) - at < 2
    assert name in ("Error", "KeyboardInterrupt"), message
