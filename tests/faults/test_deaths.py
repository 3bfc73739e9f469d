"""Kernels and containers that are killed at the worst moments."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.harness import (
    CellFailed,
    Diary,
    OwnKernel,
    Where,
    existing,
    own_kernel,
    preamble,
    running,
    subject,
    wait_for,
)

pytestmark = [pytest.mark.kernel]


@pytest.fixture
def doomed(tmp_path: Path, kernel: OwnKernel) -> Iterator[OwnKernel]:
    """A kernel for the test to kill. That of the module saw to it that there is an image."""
    with own_kernel(tmp_path / "tmp") as one:
        yield one


@pytest.fixture(scope="module", autouse=True)
def image(kernel: OwnKernel, engine: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    diary = Diary(tmp_path_factory.mktemp("image") / "out")
    kernel.run(preamble(engine, diary) + subject("Image", 0))
    kernel.run("Image().hello.remote(1); app.stop()", timeout=120)


# --- the kernel dies ------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["ordered", "dialling"])
def test_a_kernel_killed_while_its_container_starts_leaves_nothing(
    moment: str, doomed: OwnKernel, kernel: OwnKernel, engine: str, diary: Diary, state_dir: Path
) -> None:
    name = f"Early{moment.title()}"
    doomed.run(preamble(engine, diary))
    doomed.run(LOADING.format(name=name, load="time.sleep(600)"))
    doomed.begin(f"{name}().hello.remote(1)")
    [boot] = wait_for(
        lambda: existing(state_dir, f"run/*/lm-{name.lower()}-*/boot.json"),
        "the container's boot file",
        every=0.0005,
    )
    if moment == "dialling":
        wait_for(lambda: not boot.exists(), "its guest to take the boot file", every=0.0005)
    doomed.kill()
    where = Where(boot.parent.parent.name, boot.parent.parent, boot.parent.name, "")
    # What was made and never started can't remove itself; the next session does.
    idle = ("(created)", "file ", "instance folder")
    wait_for(
        lambda: all(any(word in one for word in idle) for one in where.leftovers(state_dir)),
        "no running container",
    )
    entry = kernel.describe_end(name, where)
    assert where.leftovers(state_dir) == []
    assert not where.folder.exists()
    assert entry["state"] == "failed"
    assert entry["hooks"] == []
    assert diary.events() in ([], ["loading"]), "how far its guest came, nobody knows"


LOADING = """\
@app.cls(**options)
class {name}:
    @lm.enter()
    def load(self):
        note("loading")
        {load}
        note("loaded")

    @lm.method()
    def hello(self, x):
        return x

    @lm.exit()
    def close(self):
        note("exit begun")
        note("exit done")
"""


def test_a_kernel_killed_while_enter_runs_ends_it_and_there_is_no_exit(
    doomed: OwnKernel, kernel: OwnKernel, engine: str, diary: Diary, state_dir: Path
) -> None:
    doomed.run(preamble(engine, diary))
    doomed.run(LOADING.format(name="KilledInEnter", load="time.sleep(600)"))
    doomed.begin("KilledInEnter().hello.remote(1)")
    diary.wait("loading")
    where = only_container(state_dir, "KilledInEnter")
    doomed.kill()
    where.wait_gone(state_dir)
    assert diary.events() == ["loading"]
    entry = kernel.describe_end("KilledInEnter", where)
    assert (entry["state"], entry["why"]) == ("failed", "the kernel is gone")
    assert not where.folder.exists()


def test_an_enter_that_ends_after_its_kernel_is_followed_by_exit(
    doomed: OwnKernel, kernel: OwnKernel, engine: str, diary: Diary, state_dir: Path
) -> None:
    stubborn = "\n        ".join(
        ["try:", "    time.sleep(600)", "except KeyboardInterrupt:", "    pass"]
    )
    doomed.run(preamble(engine, diary))
    doomed.run(LOADING.format(name="LateEnter", load=stubborn))
    doomed.begin("LateEnter().hello.remote(1)")
    diary.wait("loading")
    where = only_container(state_dir, "LateEnter")
    doomed.kill()
    where.wait_gone(state_dir)
    assert diary.events() == ["loading", "loaded", "exit begun", "exit done"]
    entry = kernel.describe_end("LateEnter", where)
    assert entry["state"] == "exited"


def only_container(state_dir: Path, cls: str) -> Where:
    """The container of a class that one kernel alone has, though a cell of it is running."""
    [run_dir] = existing(state_dir, f"run/*/lm-{cls.lower()}-*")
    return Where(run_dir.parent.name, run_dir.parent, run_dir.name, "")


BUILDING = """\
@app.cls(**options)
class HalfBuilt:
    @lm.build()
    def download(self):
        note("building")
        while os.path.exists(OUT + "/hold"):
            time.sleep(0.02)
        note("built")

    @lm.method()
    def hello(self, x):
        return x
"""


def test_a_kernel_killed_while_a_build_hook_runs_leaves_no_half_image(
    doomed: OwnKernel, kernel: OwnKernel, engine: str, diary: Diary, state_dir: Path
) -> None:
    hold = diary.folder / "hold"
    hold.touch()
    doomed.run(preamble(engine, diary) + BUILDING)
    doomed.begin("HalfBuilt().hello.remote(1)")
    diary.wait("building")
    where = only_container(state_dir, "HalfBuilt")
    doomed.kill()
    where.wait_gone(state_dir)
    hold.unlink()
    kernel.run(preamble(engine, diary) + BUILDING)
    assert kernel.run("print(HalfBuilt().hello.remote(5))").split()[-1] == "5"
    assert diary.events() == ["building", "building", "built"]


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "starting"])
def test_a_forked_child_that_outlives_the_kernel_does_not_keep_the_container(
    warm: bool, doomed: OwnKernel, engine: str, diary: Diary, state_dir: Path
) -> None:
    name = "ForkedWarm" if warm else "ForkedStarting"
    doomed.run(preamble(engine, diary))
    doomed.run(LOADING.format(name=name, load="pass" if warm else "time.sleep(600)"))
    doomed.run("import threading, multiprocessing")
    if warm:
        doomed.run(f"{name}().hello.remote(1)")
    else:
        doomed.run(f"call = {name}().hello.spawn(1)")
        diary.wait("loading")
    where = only_container(state_dir, name)
    child = int(
        doomed.run(
            """
            process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
            process.start()
            print(process.pid)
            """
        )
    )
    try:
        doomed.kill()
        where.wait_gone(state_dir)
        assert running(child)
    finally:
        os.kill(child, signal.SIGKILL)
    told = ["loading", "loaded", "exit begun", "exit done"] if warm else ["loading"]
    assert diary.events() == told


def test_a_call_in_a_forked_child_gets_a_container_of_its_own(
    kernel: OwnKernel, engine: str, diary: Diary
) -> None:
    kernel.run(preamble(engine, diary) + subject("Parent", 0))
    kernel.run("Parent().hello.remote(1)")
    answer = diary.folder / "answer"
    kernel.run(
        f"""
        import multiprocessing
        def work():
            open({str(answer)!r}, "w").write(str(Parent().hello.remote(6)))
        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        process.join(60)
        """
    )
    assert answer.read_text() == "6"
    diary.wait("exit done")
    assert kernel.run("print(Parent().hello.remote(5))").strip() == "5"
    assert diary.events() == ["entered", "entered", "exit begun", "exit done"]


# --- the container dies ---------------------------------------------------------------------------


def test_a_container_killed_while_idle_is_replaced_by_the_next_call(
    kernel: OwnKernel, engine: str, diary: Diary, state_dir: Path
) -> None:
    kernel.run(preamble(engine, diary) + subject("KilledIdle", 0))
    kernel.run("KilledIdle().hello.remote(1)")
    where = kernel.container("KilledIdle")
    where.kill()
    wait_for(lambda: not kernel.containers("KilledIdle"), "the kernel to notice")
    assert kernel.run("print(KilledIdle().hello.remote(5))").strip() == "5"
    assert diary.events() == ["entered", "entered"]
    entry = kernel.describe_end("KilledIdle", where)
    assert entry["state"] == "failed"
    assert "killed from outside" in entry["why"]
    where.wait_gone(state_dir)


def test_a_container_killed_while_busy_fails_its_call_with_the_reason(
    kernel: OwnKernel, engine: str, diary: Diary, state_dir: Path
) -> None:
    kernel.run(preamble(engine, diary) + subject("KilledBusy", 0))
    kernel.run("KilledBusy().hello.remote(1)")
    where = kernel.container("KilledBusy")
    cell = kernel.begin("KilledBusy().slow.remote()")
    diary.wait("slow")
    where.kill()
    with pytest.raises(CellFailed, match=r"KilledBusy\.slow.*killed from outside") as failed:
        kernel.outcome(cell)
    assert failed.value.name == "ContainerDied"
    assert kernel.run("print(KilledBusy().hello.remote(5))").strip() == "5"
    assert diary.events() == ["entered", "slow", "entered"]
    where.wait_gone(state_dir)


def test_a_container_killed_while_exiting_is_told(
    kernel: OwnKernel, engine: str, diary: Diary, state_dir: Path
) -> None:
    kernel.run(preamble(engine, diary) + subject("KilledExiting", 600))
    kernel.run("KilledExiting().hello.remote(1)")
    where = kernel.container("KilledExiting")
    cell = kernel.begin("app.stop()")
    diary.wait("exit begun")
    where.kill()
    kernel.outcome(cell)
    entry = kernel.describe_end("KilledExiting", where)
    assert entry["state"] == "failed"
    assert "killed from outside" in entry["why"]
    assert "app.stop()" in entry["why"]
    where.wait_gone(state_dir)


def test_two_kernels_with_the_same_class_name_do_not_see_each_other(
    kernel: OwnKernel, doomed: OwnKernel, engine: str, diary: Diary, state_dir: Path
) -> None:
    for one in (kernel, doomed):
        one.run(preamble(engine, diary) + subject("Twin", 0))
        one.run("Twin().hello.remote(1)")
    where = doomed.container("Twin")
    assert kernel.container("Twin").name != where.name
    doomed.kill()
    where.wait_gone(state_dir)
    assert kernel.run("print(Twin().hello.remote(5))").strip() == "5"
    assert diary.events() == ["entered", "entered", "exit begun", "exit done"]
