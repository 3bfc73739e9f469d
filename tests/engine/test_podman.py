"""Podman in the place of Docker: the same promises where it answers otherwise."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import docker
import psutil
import pytest
from kernel.harness import wait_for
from podman_engine import Podman, podman_engine

import lifecycle_magic as lm
from lifecycle_magic.engines.base import Ended
from lifecycle_magic.engines.choose import docker_engine
from lifecycle_magic.engines.docker.engine import DockerEngine
from lifecycle_magic.exception import BuildError, ContainerDied, EngineError
from lifecycle_magic.host.paths import state_root
from lifecycle_magic.images.image import Image
from lifecycle_magic.lifecycle.history import History
from lifecycle_magic.session import session

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.xdist_group("podman")]


@pytest.fixture(scope="module")
def podman(need_docker: docker.DockerClient) -> Iterator[Podman]:
    with podman_engine(need_docker) as found:
        yield found


@pytest.fixture(autouse=True)
def there(podman: Podman, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`DOCKER_HOST` names Podman, and nothing stays there."""
    monkeypatch.setenv("DOCKER_HOST", podman.url)
    monkeypatch.setenv("LIFECYCLE_MAGIC_ENGINE", "docker")
    yield
    session.close("the test is over")
    with contextlib.closing(podman.client()) as client:
        wait_for(lambda: not client.api.containers(all=True), "the removal of its containers")


@pytest.fixture
def engine() -> Iterator[DockerEngine]:
    with contextlib.closing(docker_engine("docker")) as found:
        yield found


def test_it_is_called_by_its_name(engine: DockerEngine, podman: Podman) -> None:
    with contextlib.closing(podman.client()) as client:
        version = client.version()["Version"]
    assert engine.check() == f"Podman {version} at {podman.url}"


def test_a_class_lives_there_from_build_to_exit(podman: Podman, tmp_path: Path) -> None:
    app = lm.App("podman-life")
    notes = lm.Volume.from_path(tmp_path)
    named = lm.Volume.from_name(f"podman-{secrets.token_hex(4)}", create_if_missing=True)
    # Files of the image lie at both paths.
    filled, scratch = "/usr/lib/python3", "/etc/alternatives"

    @app.cls(volumes={"/notes": notes, filled: named, scratch: lm.Volume.ephemeral()})
    class Model:
        @lm.build()
        def prepare(self) -> None:
            Path("/built").write_text("by the hook")

        @lm.enter()
        def load(self) -> None:
            self.word = Path("/built").read_text()

        @lm.method()
        def look(self) -> tuple[str, list[str], list[str]]:
            return self.word, os.listdir("/usr/lib/python3"), os.listdir("/etc/alternatives")

        @lm.method()
        def square(self, x: int) -> int:
            return x * x

        @lm.method()
        def hold(self) -> None:
            Path("/notes/holding").touch()
            threading.Event().wait()

        @lm.exit()
        def close(self) -> None:
            Path("/notes/exited").write_text("yes")

    model = Model()
    assert model.look.remote() == ("by the hook", [], [])  # what the image has there is hidden
    assert list(model.square.map(range(20))) == [x * x for x in range(20)]
    with contextlib.closing(podman.client()) as client:
        told = client.api.inspect_volume(f"lifecycle-magic-{named.name}")
    assert told["Labels"] == {"lifecycle-magic.role": "volume"}
    app.stop()
    assert (tmp_path / "exited").read_text() == "yes"
    entry = History(state_root()).entries()[-1]
    assert [hook.hook for hook in entry.hooks] == ["close"]

    call = model.hold.spawn()
    wait_for((tmp_path / "holding").exists, "the call")
    [container] = session.current().containers()
    with contextlib.closing(podman.client()) as client:
        client.api.kill(container.name)
    with pytest.raises(ContainerDied, match="exit code 137"):
        call.get(60)
    assert model.square.remote(3) == 9  # by another container
    app.stop()


def test_how_a_removed_container_ended_is_told_from_events(
    engine: DockerEngine, podman: Podman
) -> None:
    base = engine.base_id(Image.debian_slim())
    with contextlib.closing(podman.client()) as client:
        made = client.containers.create(base, ["sh", "-c", "exit 7"])
        made.start()
        made.wait()
        assert engine.ended(made.id) == Ended(7, False)
        made.remove()
        assert engine.ended(made.id) == Ended(7, False)
        assert engine.ended("0" * 64) is None


def test_what_is_kept_of_a_container_is_its_files_alone(
    engine: DockerEngine, podman: Podman
) -> None:
    with contextlib.closing(podman.client()) as client:
        api = client.api
        base = engine.base_id(Image.debian_slim())
        quoted = {"Image": base, "Cmd": ["sh", "-c", "exit 0"], "User": "nobody"}
        quoted |= {"Env": ['WORDS="two  words"'], "Entrypoint": ["env"], "Labels": {"of": "image"}}
        first = api.create_container_from_config(quoted)["Id"]
        parent = api.commit(first, "parent", secrets.token_hex(8))["Id"]
        body = {"Image": parent, "Entrypoint": ["sleep", "1000"], "Cmd": [], "User": "0:0"}
        body |= {"Env": ["TOKEN=xyz-secret"], "Labels": {"lifecycle-magic.role": "container"}}
        second = api.create_container_from_config(body)["Id"]
        api.start(second)
        key = secrets.token_hex(20)
        kept = engine.commit(second, key)
        of_parent, of_kept = (api.inspect_image(one)["Config"] for one in (parent, kept))
        for name in ("Entrypoint", "Cmd", "User"):
            assert of_kept[name] == of_parent[name]
        assert of_kept["Labels"] == {"of": "image", "lifecycle-magic.role": "image"}
        assert set(of_kept["Env"]) == {*of_parent["Env"], "TOKEN="}
        for one in (first, second):
            api.remove_container(one, force=True)
    assert any(key in one.name for one in engine.kept())


def test_an_interrupt_ends_a_command_of_a_build(engine: DockerEngine) -> None:
    mark = secrets.token_hex(8)
    image = Image.debian_slim().run_commands(f"echo {mark}; sleep 1000")

    def interrupt() -> None:
        wait_for(lambda: running(mark), "the command")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        engine.build(image, mark * 3, lambda _: None)
    thread.join()
    wait_for(lambda: not running(mark), "the end of the command")


def running(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if len(words) > 2 and words[0] == "/bin/sh" and mark in words[2]:
                found.append(process)
    return found


def test_a_failing_step_is_told_as_on_docker(engine: DockerEngine) -> None:
    image = Image.debian_slim().env({"A": "b"}).run_commands("echo before; exit 3")
    with pytest.raises(BuildError, match=r"step 2 of 2 failed: .*\(exit code 3\)\n  before"):
        engine.build(image, secrets.token_hex(20), lambda _: None)


def test_prune_keeps_what_it_is_told_to(podman: Podman, tmp_path: Path) -> None:
    with contextlib.closing(DockerEngine(young=0)) as engine:
        kept, gone = secrets.token_hex(20), secrets.token_hex(20)
        for key in (kept, gone):
            image = Image.debian_slim().env({"KEY": key})
            engine.build(image, key, lambda _: None)
        others = frozenset(
            one.name.rpartition(":")[2] for one in engine.kept() if one.kind == "image"
        )
        pruned = engine.prune(keep=others - {gone[:40]})
        assert f"image lifecycle-magic:{gone[:40]}" in pruned
        assert engine.find(gone) is None
        assert engine.find(kept) is not None


def test_a_folder_that_is_missing_is_refused_and_not_made(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    app = lm.App("podman-folder")

    @app.cls(volumes={"/data": lm.Volume.from_path(folder)})
    class Model:
        @lm.method()
        def run(self) -> int:
            return 1

    model = Model()
    folder.rmdir()
    with pytest.raises(EngineError, match=r"data, which is the volume at /data"):
        model.run.remote()
    assert not folder.exists()
    folder.mkdir()
    assert model.run.remote() == 1
    app.stop()


def test_nothing_secret_is_in_a_container(podman: Podman) -> None:
    app = lm.App("podman-secret")

    @app.cls(secrets=[lm.Secret.from_dict({"TOKEN": "xyz-secret"})])
    class Model:
        @lm.method()
        def read(self) -> str:
            return os.environ["TOKEN"]

    assert Model().read.remote() == "xyz-secret"
    with contextlib.closing(podman.client()) as client:
        [one] = client.api.containers()
        assert "xyz-secret" not in json.dumps(client.api.inspect_container(one["Id"]))
    app.stop()
