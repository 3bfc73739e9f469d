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
from lifecycle_magic import session
from lifecycle_magic.calling import calls
from lifecycle_magic.exception import BuildError, Error
from lifecycle_magic.hooks import build, method
from lifecycle_magic.options import Options
from lifecycle_magic.services.service import Change, Service
from lifecycle_magic.spec import ClassSpec, read_class

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
    volumes = {path: lm.Volume.from_path(path)}
    return read_class(Model, Options.make("Model", image=image, volumes=volumes))


def get(service: Service) -> Any:
    return calls.call(service.pool((), {}), "get", (), {})


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
        wait_for(one.gone.is_set, "the container's end")
    assert isinstance(deployed(), BuildError)
    (tmp_path / "hold").unlink()
    assert service.deploy(declared(2, tmp_path)) is Change.REPLACED
    assert get(service) == 2


def test_calls_that_wait_for_a_build_that_fails_all_hear_of_it_and_the_next_one_tries_again(
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
    with pytest.raises(BuildError, match="no weights"):
        get(service)
    assert notes.count("baking.3") == 2
