"""A full disk is said as such, whatever was being done. The process engine, on a small disk."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import missing
from engine.work import wait_for

import lifecycle_magic as lm
from lifecycle_magic.exception import BuildError, EngineError
from lifecycle_magic.session import session

pytestmark = pytest.mark.process

SIZE = 48 << 20
FULL = r"(?s)[Nn]o space left on device.*Fix: .* full: free some space, as with %lifecycle prune"
SPACE: dict[str, Any] = {"__name__": "__main__", "lm": lm}
exec(
    """
class Plain:
    @lm.method()
    def get(self): return "fine"
class Filling(Plain):
    @lm.build()
    def bake(self):
        with open("big", "wb") as file:
            for _ in range(100):
                file.write(bytes(1 << 20))
""",
    SPACE,
)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The state root, on a disk of its own."""
    if os.geteuid() != 0:
        missing("mounting a small disk needs root")
    with tempfile.TemporaryDirectory(prefix="lm-") as folder:
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            missing(f"no small disk can be mounted: {done.stderr.strip()}")
        session.close("another state root is wanted")
        monkeypatch.setenv("LIFECYCLE_MAGIC_STATE", folder)
        monkeypatch.setenv("LIFECYCLE_MAGIC_ENGINE", "process")
        try:
            yield Path(folder)
        finally:
            session.close("the test is over")
            subprocess.run(["umount", "--lazy", folder], check=True)


def free(disk: Path) -> int:
    told = os.statvfs(disk)
    return told.f_bavail * told.f_frsize


def fill(disk: Path, but: int) -> None:
    """Leave no more than ``but`` bytes."""
    with (disk / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free(disk) - but)


@pytest.fixture
def app(disk: Path, request: pytest.FixtureRequest) -> lm.App:
    return lm.App(request.node.name)


def test_by_a_command_of_the_recipe(app: lm.App) -> None:
    image = lm.Image.debian_slim().run_commands("head -c 100M /dev/zero > big")
    with pytest.raises(BuildError, match=FULL):
        app.cls(image=image)(SPACE["Plain"])().get.remote()


def test_by_a_file_that_is_added(app: lm.App, disk: Path, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(64 << 20))
    image = lm.Image.debian_slim().add_local_file(tmp_path / "big", "/big")
    with pytest.raises(BuildError, match=FULL):
        app.cls(image=image)(SPACE["Plain"])().get.remote()


def test_by_a_build_hook(app: lm.App) -> None:
    with pytest.raises(BuildError, match=FULL):
        app.cls()(SPACE["Filling"])().get.remote()


def test_by_the_copy_of_the_snapshot_for_an_instance(
    app: lm.App, disk: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(bytes(8 << 20))
    image = lm.Image.debian_slim().add_local_file(tmp_path / "file", "/file")
    model = app.cls(image=image)(SPACE["Plain"])
    assert model().get.remote() == "fine"
    app.stop()
    # The keeper removes an instance's folder when its processes are gone: a moment later.
    wait_for(lambda: not any((disk / "instances").iterdir()), "the end of the instance's folder")
    fill(disk, but=4 << 20)
    with pytest.raises(EngineError, match=FULL):
        model().get.remote()
    (disk / "filler").unlink()
    assert model().get.remote() == "fine"
    app.stop()


def test_at_the_first_file_of_a_build(app: lm.App, disk: Path) -> None:
    session.current()
    fill(disk, but=0)
    with pytest.raises((EngineError, BuildError), match=FULL):
        app.cls()(SPACE["Plain"])().get.remote()


def test_what_can_t_be_written_down_about_a_build_does_not_fail_it(app: lm.App, disk: Path) -> None:
    (disk / "builds").touch()  # where a folder should be: nothing can be written into it
    assert app.cls()(SPACE["Plain"])().get.remote() == "fine"
    app.stop()
