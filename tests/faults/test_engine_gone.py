"""A Docker engine that goes away. It is one of our own, so nobody else's goes with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import answering
import docker
import psutil
import pytest
from conftest import BASE_IMAGE, missing
from kernel.harness import (
    CellFailed,
    Diary,
    OwnKernel,
    own_kernel,
    preamble,
    running,
    subject,
    wait_for,
)

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.xdist_group("own-engine"),
]


class OwnEngine:
    """A ``dockerd`` with folders, socket and ``containerd`` of its own, and no network.

    With ``live_restore`` its containers live through its end.
    """

    def __init__(self, folder: Path, *, live_restore: bool = False) -> None:
        self.folder = folder
        self.url = f"unix://{folder}/sock"
        self._options = ["--live-restore"] if live_restore else []
        self.start()

    def start(self) -> None:
        folder = self.folder
        with open(folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [
                    # With --bridge=none a daemon removes docker0, which is the other engine's.
                    *("unshare", "--net", "--"),
                    *("dockerd", f"--data-root={folder}/data", f"--exec-root={folder}/exec"),
                    *(f"--pidfile={folder}/pid", f"--host={self.url}"),
                    *("--bridge=none", "--iptables=false", "--ip6tables=false"),
                    *self._options,
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._answers, f"an answer of the engine; its log is {folder}/log")

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            pytest.skip(f"no second engine can run here; its log is {self.folder}/log")
        return answering.pings(self.url.removeprefix("unix://"))

    def client(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=self.url)

    def load(self, source: docker.DockerClient) -> None:
        """Give it the base image that another engine has."""
        with contextlib.closing(self.client()) as client:
            client.images.load(source.images.get(BASE_IMAGE).save(named=BASE_IMAGE))

    def kill(self) -> None:
        """SIGKILL the daemon; its containers go on."""
        self.process.kill()
        self.process.wait()
        # Its containerd goes with it, and leaves a pid file that the next one would believe.
        pid = self.folder / "exec" / "containerd" / "containerd.pid"
        if pid.exists():
            wait_for(lambda: not running(int(pid.read_text())), "the end of its containerd")
        pid.unlink(missing_ok=True)
        (self.folder / "pid").unlink(missing_ok=True)

    def kill_containers(self) -> None:
        """SIGKILL what runs in its containers, and what keeps them."""
        for shim in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                for one in [shim, *shim.children(recursive=True)]:
                    one.kill()

    def _processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess):
                if any(f"{self.folder}/exec/" in word for word in process.cmdline()):
                    found.append(process)
        return found

    def close(self) -> None:
        self.kill()  # an orderly end would wait 15 s for containers that nobody needs
        self.kill_containers()
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in reversed([one for one in mounts if one.startswith(f"{self.folder}/")]):
            subprocess.run(["umount", "--lazy", mount], check=True)
        shutil.rmtree(self.folder / "data")
        shutil.rmtree(self.folder / "exec", ignore_errors=True)


@contextlib.contextmanager
def engine_in(
    folder: Path, source: docker.DockerClient, *, live_restore: bool = False
) -> Iterator[OwnEngine]:
    """An engine that keeps its files in ``folder`` and has the base image of ``source``."""
    if shutil.which("dockerd") is None or os.geteuid() != 0:
        missing("a second engine takes root and dockerd: run `make engine` as root")
    with contextlib.ExitStack() as stack:
        engine = OwnEngine(folder, live_restore=live_restore)
        stack.callback(engine.close)
        engine.load(source)
        yield engine


@pytest.fixture(scope="module")
def own_engine(
    need_docker: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnEngine]:
    with engine_in(tmp_path_factory.mktemp("engine"), need_docker) as engine:
        yield engine


HOLD = """
    @lm.method()
    def hold(self):
        note("holding")
        while os.path.exists(OUT + "/hold"):
            time.sleep(0.02)
        return "held"
"""


@pytest.fixture
def held(
    own_engine: OwnEngine, diary: Diary, tmp_path: Path
) -> Iterator[tuple[OwnKernel, str, Path]]:
    """A kernel of that engine with a call that lasts until its file is removed."""
    hold = diary.folder / "hold"
    hold.touch()
    with own_kernel(tmp_path / "tmp", {"DOCKER_HOST": own_engine.url}) as kernel:
        kernel.run(preamble("docker", diary) + subject("Held", 0) + HOLD)
        kernel.run("Held().hello.remote(1)", timeout=120)
        cell = kernel.begin("print(Held().hold.remote())")
        diary.wait("holding")
        yield kernel, cell, hold


def test_calls_and_exit_outlive_their_engine_and_the_next_container_says_what_is_missing(
    held: tuple[OwnKernel, str, Path], own_engine: OwnEngine, diary: Diary
) -> None:
    kernel, cell, hold = held
    own_engine.kill()
    hold.unlink()
    assert kernel.outcome(cell).strip() == "held"
    assert kernel.run("print(Held().hello.remote(2))").strip() == "2"
    kernel.run("app.stop()")
    assert diary.events() == ["entered", "holding", "exit begun", "exit done"]
    with pytest.raises(CellFailed, match=f"no Docker engine answers at {own_engine.url}") as failed:
        kernel.run("Held().hello.remote(3)")
    assert failed.value.name == "EngineUnavailable"
    own_engine.start()
    assert kernel.run("print(Held().hello.remote(4))").strip() == "4"


def test_a_call_whose_engine_and_container_go_fails_with_the_reason(
    held: tuple[OwnKernel, str, Path], own_engine: OwnEngine, diary: Diary
) -> None:
    kernel, cell, _ = held
    own_engine.kill()
    own_engine.kill_containers()
    with pytest.raises(CellFailed, match=r"Held\.hold exited.*engine does not answer") as failed:
        kernel.outcome(cell)
    assert failed.value.name == "ContainerDied"
    own_engine.start()
    assert kernel.run("print(Held().hello.remote(4))").strip() == "4"
    assert diary.events() == ["entered", "holding", "entered"]


def test_with_live_restore_a_container_lives_through_its_engines_restart_and_exits(
    need_docker: docker.DockerClient,
    diary: Diary,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("live")  # short: containerd's socket lies in it
    with (
        engine_in(folder, need_docker, live_restore=True) as engine,
        contextlib.closing(engine.client()) as client,
        own_kernel(tmp_path / "tmp", {"DOCKER_HOST": engine.url}) as kernel,
    ):
        kernel.run(preamble("docker", diary) + subject("Kept", 0) + subject("Left", 0))
        kernel.run("Kept().hello.remote(1), Left().hello.remote(1)", timeout=120)
        kept, left = kernel.container("Kept"), kernel.container("Left")
        engine.kill()
        engine.start()
        assert kernel.run("print(Kept().hello.remote(2), Left().hello.remote(3))") == "2 3\n"
        assert diary.events() == ["entered"] * 2  # they are the same containers
        client.containers.get(kept.id).stop()
        diary.wait("exit done")
        wait_for(lambda: kept.id not in ids(client), "the removal of the container that ended")
        kernel.kill()
        diary.wait("exit done", 2)
        client.api.wait(left.id)
        assert left.id in ids(client)  # nobody was there to remove it
        with own_kernel(tmp_path / "later", {"DOCKER_HOST": engine.url}) as later:
            assert later.describe_end("Left", left)["state"] == "exited"
            wait_for(lambda: not ids(client), "the next session to remove what was left")


def ids(client: docker.DockerClient) -> set[str]:
    """Every container of an engine."""
    return {one["Id"] for one in client.api.containers(all=True)}
