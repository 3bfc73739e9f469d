"""What the tool keeps on disk: named volumes, images, what is listed, and what prune removes."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kernel.harness import wait_for

import lifecycle_magic as lm
from lifecycle_magic import pruning, session
from lifecycle_magic.engines.base import Kept

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
import lifecycle_magic as lm
class Model:
    @lm.method()
    def get(self): return "fine"
app = lm.App(engine="process")
Model = app.cls(image=lm.Image.debian_slim().env({"MARK": sys.argv[1]}))(Model)
print(Model().get.remote(), flush=True)
app.stop()
print("stopped", flush=True)
sys.stdin.readline()
print(Model().get.remote(), flush=True)
app.stop()
"""


@pytest.mark.process
def test_prune_keeps_the_images_of_another_living_session_though_nothing_runs_on_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LIFECYCLE_MAGIC_ENGINE", "process")
    script = tmp_path / "other.py"
    script.write_text(OTHER)
    command = [sys.executable, str(script), secrets.token_hex(4)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert [other.stdout.readline().strip() for _ in range(2)] == ["fine", "stopped"]
        engine = session.current().engine("process")
        before = {one.name for one in engine.kept() if one.kind == "image"}
        pruning.prune(session.current(), everything=True)
        left = {one.name for one in engine.kept() if one.kind == "image"}
        assert left
        assert left <= before
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline().strip() == "fine"
        other.stdin.close()
        assert other.wait(60) == 0
    wait_for(
        lambda: not any(one.used for one in engine.kept() if one.kind == "image"),
        "the end of all instances",
    )
    pruning.prune(session.current(), everything=True)
    assert not [one for one in engine.kept() if one.kind == "image" and not one.used]


@pytest.mark.process
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
    pruning.prune(session.current(), volumes=True, ask=lambda text: asked.append(text) or "n")
    assert name in asked[0]
    assert listed(name)
    assert f"process: removed volume {name}" in pruning.prune(session.current(), volumes=True)
    assert listed(name) is None
