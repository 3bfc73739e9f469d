"""GPUs of their own for containers, on machines that `fakes/nvml` makes up.

The process engine needs no GPU to show which ones a container was given.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine.work import Site, Work, wait_for

import lifecycle_magic as lm
from lifecycle_magic.container.container import Container
from lifecycle_magic.engines.process.engine import ProcessEngine
from lifecycle_magic.exception import EngineError, InvalidError, StartError, StartTimeout
from lifecycle_magic.gpus import inventory
from lifecycle_magic.gpus.leases import GpuLeases
from lifecycle_magic.host.paths import state_root
from lifecycle_magic.session import session
from lifecycle_magic.ui import doctor
from lifecycle_magic.ui.panel import snapshot
from lifecycle_magic.ui.panel.feed import Feed

NVML = Path(__file__).parents[1] / "fakes" / "nvml"
TWO = [{"uuid": f"GPU-{n}", "name": "NVIDIA L4", "memory": 23034} for n in "ab"]

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("gpus")]


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Give this machine two GPUs, and a state folder in which nobody else leases any."""
    monkeypatch.syspath_prepend(NVML)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setattr(inventory, "KEPT_SECONDS", 0.0)
    monkeypatch.setenv("FAKE_GPUS", json.dumps(TWO))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    before = GpuLeases(state_root()).held()
    assert not before
    yield
    wait_for(lambda: not GpuLeases(state_root()).held(), "all GPUs are given back")
    sys.modules.pop("pynvml", None)


class OnGpu(Work):
    @lm.method()
    def seen(self) -> str:
        return os.environ["CUDA_VISIBLE_DEVICES"]

    @lm.method()
    def hold_seen(self, name: str) -> str:
        self.folder.note(f"began-{name}")
        self.folder.wait(f"go-{name}")
        return os.environ["CUDA_VISIBLE_DEVICES"]


class Edited(OnGpu):
    version = 2

    @lm.enter()
    def load_more(self) -> None:
        self.folder.note("enter-2")


def stop(name: str) -> None:
    (service,) = [one for one in session.current().services.values() if one.name == name]
    service.stop("the test says so")


def test_every_container_has_gpus_of_its_own(site: Site) -> None:
    first, second = (site.instance(OnGpu, name=name, gpu=1) for name in ("First", "Second"))
    assert {first.seen.remote(), second.seen.remote()} == {"GPU-a", "GPU-b"}
    assert site.instance(OnGpu, name="None").seen.remote() == ""


def test_containers_of_one_class_have_different_ones(site: Site) -> None:
    work = site.instance(OnGpu, gpu="L4", max_containers=2)
    calls = [work.hold_seen.spawn(n) for n in "ab"]
    site.folder.wait("began-a")
    site.folder.wait("began-b")
    for n in "ab":
        site.folder.note(f"go-{n}")
    assert {one.get() for one in calls} == {"GPU-a", "GPU-b"}


def test_several_gpus_and_alternatives(site: Site) -> None:
    assert site.instance(OnGpu, gpu=["H100", "L4:2"]).seen.remote() == "GPU-a,GPU-b"


def test_classes_share_a_gpu_by_its_memory(site: Site) -> None:
    names = ("First", "Second", "Third")
    seen = [site.instance(OnGpu, name=name, gpu_memory=11000).seen.remote() for name in names]
    assert seen == ["GPU-a", "GPU-a", "GPU-b"]


def test_what_the_machine_does_not_have_is_refused(site: Site) -> None:
    with pytest.raises((EngineError, InvalidError), match="there is only 2 x NVIDIA L4"):
        site.instance(OnGpu, gpu="A100").seen.remote()
    with pytest.raises((EngineError, InvalidError), match="gpu_memory=90000"):
        site.instance(OnGpu, name="Large", gpu_memory=90000).seen.remote()


def test_a_start_waits_for_a_gpu_and_says_who_has_it(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    holder = site.instance(OnGpu, name="Holder", gpu="all")
    assert holder.seen.remote() == "GPU-a,GPU-b"
    call = site.instance(OnGpu, name="Waiting", gpu=1).seen.spawn()
    printed = ""

    def says_who() -> bool:
        nonlocal printed
        printed += capfd.readouterr().err
        return "Waiting waits for gpu=1: GPU 0 (NVIDIA L4) is held by lm-holder-" in printed

    wait_for(says_who, "what it waits for")
    assert "%lifecycle stop NAME" in printed
    stop("Holder")
    assert call.get() in ("GPU-a", "GPU-b")


def test_ps_panel_and_doctor_list_what_is_taken(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = [{**one, "used": 2048, "load": 45} for one in TWO]
    site.instance(OnGpu, name="Sharing", gpu_memory=8000).seen.remote()
    monkeypatch.setenv("FAKE_GPUS", json.dumps(busy))
    told = "GPU 0: 2.0 GiB of 22.5 GiB, 45 % (8000 MiB of it)"
    (row,) = snapshot.of_session(session.current())
    assert row.gpu == told
    (of_root,) = snapshot.of_root(state_root(), lambda _: ProcessEngine())
    assert of_root.gpu == told
    assert told in snapshot.table((row,)).text()
    found = doctor.text(doctor.examine(state_root()))
    assert f"GPU 0 (NVIDIA L4): 2.0 GiB of 22.5 GiB, 45 %, {row.container} of Sharing" in found
    assert "GPU 1 (NVIDIA L4): 2.0 GiB of 22.5 GiB, 45 %, free" in found
    sent: dict[str, Any] = {}
    feed = Feed(session.current(), sent.update)
    feed.look()
    feed._sampler.join()
    feed.look()
    feed.close()
    assert sent["lives"][row.container][-1] == told


def test_a_wait_that_takes_too_long_ends_with_who_has_it(site: Site) -> None:
    site.instance(OnGpu, name="Holder", gpu="all").seen.remote()
    waiting = site.instance(OnGpu, name="Waiting", gpu=1, startup_timeout=0.3)
    with pytest.raises(StartTimeout, match=r"waited startup_timeout=0.3 s.*lm-holder-"):
        waiting.seen.remote()


def test_a_second_container_that_finds_no_gpu_leaves_the_first_alone(site: Site) -> None:
    work = site.instance(OnGpu, gpu=2, max_containers=4)
    assert list(work.echo.map(range(20))) == list(range(20))
    assert site.folder.count("enter") == 1


def test_with_the_only_gpu_taken_the_old_container_exits_before_the_new_one_starts(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    first = site.instance(OnGpu, name="Model", gpu=2)
    assert first.seen.remote() == "GPU-a,GPU-b"
    assert site.folder.events() == {"enter"}
    second = site.instance(Edited, name="Model", gpu=2)
    assert second.seen.remote() == "GPU-a,GPU-b"
    assert site.folder.count("exit") == 1


def test_stopping_a_class_ends_its_wait(site: Site) -> None:
    assert site.instance(OnGpu, name="Holder", gpu=2).seen.remote()
    call = site.instance(OnGpu, name="Waiting", gpu=1).seen.spawn()
    waiting = wait_for(lambda: _containers("Waiting"), "the start of a container")
    stop("Waiting")
    with pytest.raises(StartError, match="the test says so"):
        call.get()
    wait_for(lambda: all(one.exited.is_set() for one in waiting), "its end")
    assert [lease.cls for lease in GpuLeases(state_root()).held()] == ["Holder"]


def _containers(name: str) -> list[Container]:
    (service,) = [one for one in session.current().services.values() if one.name == name]
    return service.containers()


class Built(OnGpu):
    def __init__(self, path: str = "") -> None:
        super().__init__(path)

    @lm.build()
    def prepare(self) -> None:
        if os.environ["CUDA_VISIBLE_DEVICES"] != "GPU-a,GPU-b":
            raise LookupError(os.environ["CUDA_VISIBLE_DEVICES"])


def test_a_build_hook_takes_the_gpus_of_the_class_that_it_is_for(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    assert site.instance(OnGpu, name="Model", gpu=2).seen.remote() == "GPU-a,GPU-b"
    assert site.instance(Built, name="Model", gpu=2).seen.remote() == "GPU-a,GPU-b"
    assert site.folder.count("exit") == 1
    assert "waits for gpu=2" not in capfd.readouterr().err


class Failing(OnGpu):
    @lm.enter()
    def fail_to_load(self) -> None:
        raise LookupError("no weights")


def test_a_new_version_that_fails_on_the_only_gpu_leaves_the_class_usable(site: Site) -> None:
    assert site.instance(OnGpu, name="Model", gpu=2).seen.remote()
    for _ in range(2):
        with pytest.raises(LookupError, match="no weights"):
            site.instance(Failing, name="Model", gpu=2).seen.remote()
    assert site.instance(OnGpu, name="Model", gpu=2).seen.remote() == "GPU-a,GPU-b"


SLOW_EXIT = """
import os, sys, time
import lifecycle_magic as lm

FOLDER = sys.argv[1]
app = lm.App("slow", engine="process")

@app.cls(gpu=2, volumes={FOLDER: lm.Volume.from_path(FOLDER)})
class Model:
    @lm.method()
    def seen(self):
        return os.environ["CUDA_VISIBLE_DEVICES"]

    @lm.exit()
    def close(self):
        while not os.path.exists(FOLDER + "/go"):
            time.sleep(0.01)

print(Model().seen.remote(), flush=True)
input()
"""


def test_a_container_whose_kernel_was_killed_keeps_its_gpus_until_its_exit_has_run(
    site: Site,
) -> None:
    with program(SLOW_EXIT, site.folder.path) as (one, seen):
        assert seen == "GPU-a,GPU-b"
        one.kill()
        one.wait()
        ours = site.instance(OnGpu, gpu=1, startup_timeout=0.3)
        with pytest.raises(StartTimeout, match=r"GPU 0 \(NVIDIA L4\) is held by lm-model-"):
            ours.seen.remote()
        Path(site.folder.path, "go").touch()
        assert site.instance(OnGpu, name="Next", gpu=1).seen.remote() == "GPU-a"


KEPT = """
import os, sys
import lifecycle_magic as lm

FOLDER, gpus, state = sys.argv[1:]
os.environ["JPY_SESSION_NAME"] = FOLDER + "/same.ipynb"
app = lm.App("kept", engine="process")

def note(event):
    with open(FOLDER + "/diary", "a") as file:
        file.write(event + "\\n")

@app.cls(gpu=int(gpus), keep=120, env={"A": state}, volumes={FOLDER: lm.Volume.from_path(FOLDER)})
class Model:
    @lm.enter()
    def load(self):
        note("entered")

    @lm.method()
    def seen(self):
        return os.environ["CUDA_VISIBLE_DEVICES"]

    @lm.exit()
    def close(self):
        note("exit")

print(Model().seen.remote(), flush=True)
sys.stdin.read()
app.stop()
"""


@pytest.mark.parametrize("gpus", [1, 2])
def test_a_kept_container_of_another_state_exits_first_where_the_gpus_are_not_enough_for_both(
    site: Site, gpus: int
) -> None:
    folder = site.folder.path
    diary = Path(folder, "diary")
    with program(KEPT, folder, str(gpus), "first") as (one, seen):
        assert seen == {1: "GPU-a", 2: "GPU-a,GPU-b"}[gpus]
        one.kill()
        one.wait()
        with program(KEPT, folder, str(gpus), "second") as (_, seen):
            assert seen == {1: "GPU-b", 2: "GPU-a,GPU-b"}[gpus]
            wait_for(lambda: diary.read_text().count("exit") == 1, "the exit of the former one")
            events = diary.read_text().split()
    if gpus == 1:
        assert events == ["entered", "entered", "exit"]
    else:
        assert events == ["entered", "exit", "entered"]


PROGRAM = """
import os
import lifecycle_magic as lm

app = lm.App("program", engine="process")

@app.cls(gpu=1)
class Model:
    @lm.method()
    def seen(self):
        return os.environ["CUDA_VISIBLE_DEVICES"]

print(Model().seen.remote(), flush=True)
input()
"""


@contextlib.contextmanager
def program(text: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a program on the GPUs of this test; yield it with the first line that it prints."""
    one = subprocess.Popen(
        [sys.executable, "-c", text, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(NVML)},
    )
    try:
        assert one.stdout is not None
        yield one, one.stdout.readline().strip()
    finally:
        one.communicate()


def test_two_programs_have_different_gpus_and_a_killed_one_gives_its_own_back(site: Site) -> None:
    with program(PROGRAM) as (first, one), program(PROGRAM) as (_, other):
        assert {one, other} == {"GPU-a", "GPU-b"}
        first.kill()
        assert site.instance(OnGpu, gpu=1).seen.remote() == one
