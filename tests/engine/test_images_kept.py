"""What the tool keeps on disk: named volumes, images, what is listed, and what prune removes."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from engine import docker_images
from kernel.harness import wait_for

import lifecycle_magic as lm
from lifecycle_magic.engines.base import Engine, Kept
from lifecycle_magic.engines.docker.engine import DockerEngine
from lifecycle_magic.engines.docker.names import ROLE, VOLUME_PREFIX
from lifecycle_magic.host.ledger import Ledger
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.host.paths import private_folder
from lifecycle_magic.session import session
from lifecycle_magic.ui import prune as pruning

SPACE: dict[str, Any] = {"__name__": "__main__", "lm": lm}
exec(
    """
class Writer:
    @lm.method()
    def put(self, path, text):
        with open(path, "w") as file:
            file.write(text)
class Reader:
    @lm.method()
    def get(self, path):
        with open(path) as file:
            return file.read()
""",
    SPACE,
)


@pytest.fixture
def volume(engine_name: str) -> Iterator[lm.Volume]:
    volume = lm.Volume.from_name(f"test-{secrets.token_hex(6)}")
    yield volume
    wait_for(lambda: not is_used(str(volume.name)), "the containers' end")
    session.current().engine().remove_volume(str(volume.name))


def listed(name: str) -> Kept | None:
    found = [one for one in session.current().engine().kept() if one.name == name]
    return found[0] if found else None


def is_used(name: str) -> bool:
    kept = listed(name)
    return kept is not None and kept.used


@pytest.mark.usefixtures("need_mounts")
def test_a_named_volume_is_shared_by_two_classes_listed_and_kept_until_removed(
    engine_name: str, volume: lm.Volume, request: pytest.FixtureRequest
) -> None:
    engine, name = session.current().engine(), str(volume.name)
    app = lm.App(request.node.name, engine=engine_name)
    # Without a sandbox a volume mounts at its own path only; where there is one, anywhere.
    with app.run():
        writer = app.cls(volumes={"/shared": volume})(SPACE["Writer"])
        reader = app.cls(volumes={"/elsewhere": volume})(SPACE["Reader"])
        writer().put.remote("/shared/file", "x" * 100_000)
        assert reader().get.remote("/elsewhere/file") == "x" * 100_000
        kept = listed(name)
        assert kept is not None
        assert kept.used
        assert kept.kind == "volume"
        assert not engine.remove_volume(name)  # two containers have it
    kept = listed(name)
    assert kept is not None
    assert (kept.size or 0) >= 100_000
    with app.run():
        assert reader().get.remote("/elsewhere/file") == "x" * 100_000
    wait_for(lambda: engine.remove_volume(name), "the containers' end")
    assert listed(name) is None


def test_every_image_is_listed_with_its_size_and_whether_it_is_used(
    engine_name: str, request: pytest.FixtureRequest
) -> None:
    app = lm.App(request.node.name, engine=engine_name)
    with app.run():
        app.cls()(SPACE["Reader"])().get.remote("/proc/version")
        used = [one for one in session.current().engine().kept() if one.used]
        assert any(one.kind == "image" and (one.size or 0) > 0 and one.made for one in used)
        text = pruning.listing(session.current()).text()
    assert used[0].name in text
    assert "in use" in text


OTHER = """
import sys
from pathlib import Path
import lifecycle_magic as lm

FIRST = 1
SECOND = int(sys.argv[2])
app = lm.App()
volumes = {"/data": lm.Volume.from_name(sys.argv[3])} if sys.argv[3:] else {}
@app.cls(image=lm.Image.debian_slim().env({"MARK": sys.argv[1]}), volumes=volumes)
class Model:
    @lm.build()
    def slow(self):
        Path("slow").write_text(f"{FIRST}")
        print("ran slow")
    @lm.build()
    def quick(self):
        Path("quick").write_text(f"{SECOND}")
        print("ran quick")
    @lm.method()
    def get(self): return "fine"
if sys.argv[3:]:
    from lifecycle_magic.session import session
    session.current()
else:
    print(Model().get.remote(), flush=True)
    app.stop()
print("ready", flush=True)
sys.stdin.readline()
print(Model().get.remote(), flush=True)
app.stop()
"""


@contextlib.contextmanager
def another_session(folder: Path, *arguments: str) -> Iterator[Callable[[], list[str]]]:
    """A process with a session of its own, which has said that it is ready; to call is to have it
    go on, and returns what it printed before that and then.
    """
    (folder / "other.py").write_text(OTHER)
    command = [sys.executable, str(folder / "other.py"), *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        before = list(iter(lambda: other.stdout.readline().strip(), "ready"))  # type: ignore[union-attr]

        def go_on() -> list[str]:
            told, _ = other.communicate("\n", timeout=120)
            assert other.returncode == 0
            return [*before, *told.splitlines()]

        yield go_on


def images_of(engine: Engine, mark: str) -> set[str]:
    """The images that were made from a recipe with this mark."""
    if isinstance(engine, DockerEngine):
        return {one for one in marked_images(mark) if one.startswith("sha256:")}
    return {one.name for one in engine.kept() if one.kind == "image"}


def marked_images(mark: str) -> set[str]:
    """The ids and names of the images of Docker with this mark."""
    found = set()
    with contextlib.closing(docker.from_env()) as client:
        for one in docker_images.ids(client, label=f"{ROLE}=image"):
            if (image := inspected(client, one)) is not None and is_marked(image, mark):
                found |= {one, *image["RepoTags"]}
    return found


def inspected(client: docker.DockerClient, image: str) -> dict[str, Any] | None:
    """What the engine says of an image, by id or name; None if there is none (any more)."""
    with contextlib.suppress(docker.errors.APIError):
        return dict(client.api.inspect_image(image))
    return None


def is_marked(image: dict[str, Any], mark: str) -> bool:
    return f"MARK={mark}" in image["Config"]["Env"]


def prune(
    engine: Engine,
    mark: str = "",
    *,
    volume: str = "",
    young: float = -1.0,
    ask: Callable[[str], str] | None = None,
) -> str:
    """Prune, by default as if nothing were young, but leave what other tests have on the same
    engine: of images only those with the mark go, of volumes only the one called so.
    """
    root = session.current().root
    others = private_folder(root / "run" / secrets.token_hex(4))
    Owner.me().write(others / "owner.json")
    names = {one.name for one in engine.kept() if one.kind == "volume"}
    Ledger(root, others).add_volumes(names - {volume})
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, others)
        if isinstance(engine, DockerEngine):
            client = stack.enter_context(contextlib.closing(docker.from_env()))

            def is_ours(what: str) -> bool:
                image = inspected(client, what)
                return what == VOLUME_PREFIX + volume or (
                    image is not None and is_marked(image, mark)
                )

            stack.enter_context(docker_images.removing_only(is_ours))
            stack.callback(setattr, engine, "young", engine.young)
            engine.young = young
        return pruning.prune(session.current(), everything=True, volumes=bool(volume), ask=ask)


@pytest.mark.xdist_group("docker-images")
def test_prune_keeps_every_layer_of_another_living_session_though_nothing_runs_on_them(
    engine_name: str, tmp_path: Path
) -> None:
    engine, mark = session.current().engine(), secrets.token_hex(4)
    with another_session(tmp_path, mark, "1") as go_on:
        before = images_of(engine, mark)
        prune(engine, mark)
        left = images_of(engine, mark)
        assert left
        assert left <= before
        assert go_on() == ["ran slow", "ran quick", "fine", "fine"]
    # Its layers were all there, each under its key: only what changed runs again.
    with another_session(tmp_path, mark, "2") as go_on:
        assert go_on() == ["ran quick", "fine", "fine"]
    wait_for(lambda: prune(engine, mark) and not images_of(engine, mark), "the containers' end")


@pytest.mark.docker
@pytest.mark.xdist_group("docker-images")
def test_prune_leaves_a_young_image_of_docker_which_may_be_of_a_session_elsewhere(
    need_docker: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_MAGIC_ENGINE", "docker")
    engine, key = session.current().engine(), secrets.token_hex(32)
    image = lm.Image.debian_slim().env({"MARK": key})
    engine.build(image, key, lambda step: None)
    prune(engine, key, young=engine.young)
    assert engine.find(key)
    prune(engine, key)
    assert not engine.find(key)


@pytest.mark.usefixtures("need_mounts")
def test_prune_keeps_the_volume_that_a_living_session_declared_before_any_call(
    engine_name: str, volume: lm.Volume, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    engine, name = session.current().engine(), str(volume.name)
    app = lm.App(request.node.name, engine=engine_name)
    with app.run():
        app.cls(volumes={"/data": volume})(SPACE["Writer"])().put.remote("/data/file", "text")
    wait_for(lambda: not is_used(name), "the container's end")
    with another_session(tmp_path, secrets.token_hex(4), "1", name) as go_on:
        assert name not in prune(engine, volume=name)
        assert listed(name)
        assert go_on()[-1] == "fine"
    wait_for(lambda: not is_used(name), "the container's end")
    assert f"{engine.name}: removed volume {name}" in prune(engine, volume=name)
    assert listed(name) is None


@pytest.mark.process
@pytest.mark.usefixtures("need_mounts")
def test_prune_leaves_volumes_alone_unless_it_is_told_to(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("LIFECYCLE_MAGIC_ENGINE", "process")
    name = f"test-{secrets.token_hex(6)}"
    app = lm.App(request.node.name, engine="process")
    with app.run():
        writer = app.cls(volumes={"/data": lm.Volume.from_name(name)})(SPACE["Writer"])
        writer().put.remote("/data/file", "text")
    wait_for(lambda: not is_used(name), "the container's end")
    pruning.prune(session.current())
    assert listed(name)
    asked: list[str] = []
    engine = session.current().engine()
    prune(engine, volume=name, ask=lambda text: asked.append(text) or "n")
    assert name in asked[0]
    assert listed(name)
    # A class of this session was declared with it.
    assert name not in pruning.prune(session.current(), volumes=True)
    assert listed(name)
    assert f"process: removed volume {name}" in prune(session.current().engine(), volume=name)
    assert listed(name) is None
