"""While a class's image is built: what runs serves and can be stopped, and a failure is told once
to everybody who waits for it.
"""

from __future__ import annotations

import os
import secrets
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine.work import Folder, wait_for

import lifecycle_magic as lm
from lifecycle_magic.calls import sync
from lifecycle_magic.decorators.hooks import build, method
from lifecycle_magic.exception import BuildError, Error
from lifecycle_magic.services.service import Change, Service
from lifecycle_magic.session import session
from lifecycle_magic.spec.class_spec import ClassSpec
from lifecycle_magic.spec.options import Options
from lifecycle_magic.spec.reading import read_class

MARK = secrets.token_hex(8)


@pytest.fixture
def service(engine_name: str) -> Iterator[Service]:
    current = session.current()
    yield current.services.setdefault("test/Model", Service(current, "Model"))
    session.close("the test is over")


def declared(version: int, folder: Path, *, fails: bool = False) -> ClassSpec:
    path = str(folder)

    class Model:
        @build()
        def bake(self) -> None:
            with open(f"{path}/baking.{version}.{os.urandom(4).hex()}", "x"):
                pass
            while os.path.exists(f"{path}/hold"):
                pass
            if fails:
                raise RuntimeError("no weights")

        @method()
        def get(self) -> int:
            return version

    image = lm.Image.debian_slim().env({"MARK": MARK})
    if (weights := folder / "weights").exists():
        image = image.workdir("/root").add_local_file(weights, "/root/weights")
    volumes = {path: lm.Volume.from_path(path)}
    return read_class(Model, Options.make("Model", image=image, volumes=volumes))


def get(service: Service) -> Any:
    return sync.call(service.open_pool((), {}), "get", (), {})


def outcome(function: Callable[[], Any]) -> Callable[[], Any]:
    """Run it on a thread; to call is to wait for what it returned or raised."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(function())
        except Error as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def wait() -> Any:
        thread.join(60)
        assert found, "it does not end"
        return found[0]

    return wait


def in_the_queue() -> int:
    """How many threads deploy, or wait for one that does."""
    found = 0
    for frame in sys._current_frames().values():
        names = [one.f_code.co_name for one, _ in traceback.walk_stack(frame)]
        found += "_deploy_pending" in names
    return found


def test_what_runs_serves_new_handles_and_can_be_stopped_while_the_next_image_is_built(
    service: Service, tmp_path: Path
) -> None:
    notes = Folder(str(tmp_path))
    assert service.deploy(declared(1, tmp_path)) is Change.NEW
    assert get(service) == 1
    (tmp_path / "hold").touch()
    deployed = outcome(lambda: service.deploy(declared(2, tmp_path)))
    notes.wait("baking.2")
    assert outcome(lambda: get(service))() == 1
    going = outcome(lambda: service.stop("the test stops it"))()
    assert len(going) == 2  # the one that runs a build hook as well
    for one in going:
        wait_for(one.exited.is_set, "the container's end")
    assert isinstance(deployed(), BuildError)
    (tmp_path / "hold").unlink()
    assert service.deploy(declared(2, tmp_path)) is Change.REPLACED
    assert get(service) == 2


def test_calls_that_wait_for_a_failing_build_all_raise_and_so_does_the_next_one(
    service: Service, tmp_path: Path
) -> None:
    notes = Folder(str(tmp_path))
    service.declare(declared(3, tmp_path, fails=True))
    (tmp_path / "hold").touch()
    first = outcome(lambda: get(service))
    notes.wait("baking.3")
    # Those in the queue have seen that nothing had failed yet.
    others = [outcome(lambda: get(service)) for _ in range(2)]
    wait_for(lambda: in_the_queue() == 3, "the others")
    (tmp_path / "hold").unlink()
    for one in (first, *others):
        error = one()
        assert isinstance(error, BuildError)
        assert "no weights" in str(error)
    assert notes.count("baking.3") == 1
    for _ in range(2):
        with pytest.raises(BuildError, match="no weights") as caught:
            get(service)
        assert "Fix: to retry it" in caught.value.__notes__[-1]
        assert len(caught.value.__notes__) == 1
    assert notes.count("baking.3") == 1, "nothing has changed"


@pytest.fixture
def failed(service: Service, tmp_path: Path) -> Service:
    """A service whose first build has failed, with an image that has a local file."""
    (tmp_path / "weights").write_text("none")
    service.declare(declared(3, tmp_path, fails=True))
    with pytest.raises(BuildError, match="no weights"):
        get(service)
    assert Folder(str(tmp_path)).count("baking.3") == 1
    return service


def test_a_build_that_failed_runs_again_when_a_file_that_it_reads_has_changed(
    failed: Service, tmp_path: Path
) -> None:
    (tmp_path / "weights").write_text("some")
    with pytest.raises(BuildError, match="no weights"):
        get(failed)
    assert Folder(str(tmp_path)).count("baking.3") == 2


def test_a_build_that_failed_runs_again_when_it_is_asked_for(
    failed: Service, tmp_path: Path
) -> None:
    failed.retry_failed_build()
    with pytest.raises(BuildError, match="no weights"):
        get(failed)
    failed.declare(declared(3, tmp_path, fails=True))  # the cell is run again
    with pytest.raises(BuildError, match="no weights"):
        get(failed)
    assert Folder(str(tmp_path)).count("baking.3") == 3


def test_a_build_that_was_stopped_runs_again_with_the_next_call(
    service: Service, tmp_path: Path
) -> None:
    notes = Folder(str(tmp_path))
    service.declare(declared(4, tmp_path))
    (tmp_path / "hold").touch()
    first = outcome(lambda: get(service))
    notes.wait("baking.4")
    going = service.stop("the test stops it")
    assert isinstance(first(), Error)
    for one in going:
        wait_for(one.exited.is_set, "the container's end")
    (tmp_path / "hold").unlink()
    assert get(service) == 4
