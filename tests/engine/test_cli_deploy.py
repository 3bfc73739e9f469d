"""``lifecycle-magic deploy``: a script that serves in the background, and its replacement."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine.work import Folder, wait_for

import lifecycle_magic as lm
from lifecycle_magic.exception import NotFoundError
from lifecycle_magic.host.served_names import living
from lifecycle_magic.session import session

pytestmark = [pytest.mark.usefixtures("engine_name")]

SCRIPT = """
import lifecycle_magic as lm
from engine.work import Folder

app = lm.App(APP)

@app.cls(volumes={PLACE: lm.Volume.from_path(PLACE)}, max_containers=2)
class Model:
    @lm.enter()
    def load(self):
        if BROKEN:
            raise RuntimeError("no weights")

    @lm.method()
    def version(self):
        return VERSION

    @lm.method()
    def hold(self, name):
        notes = Folder(PLACE)
        notes.note(f"began-{name}")
        notes.wait(f"go-{name}")
        return f"{name}-{VERSION}"

    @lm.exit()
    def close(self):
        Folder(PLACE).note("exit-VERSION")

@app.function()
def square(x):
    return x * x
"""


class Deployment:
    """One script with a name of its own, and the commands that deploy and stop it."""

    def __init__(self, folder: Path) -> None:
        self.name = f"deployed-{uuid.uuid4().hex[:8]}"
        self.app = f"app-{self.name}"
        notes = folder / "notes"
        notes.mkdir()
        self.notes = Folder(str(notes))
        self.script = folder / "model.py"

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        tests = str(Path(__file__).parents[1])
        return subprocess.run(
            [sys.executable, "-m", "lifecycle_magic", *words],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONPATH": tests},
        )

    def deploy(
        self, version: int, *, broken: bool = False, app: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        text = SCRIPT.replace("APP", repr(self.app) if app is None else app)
        text = text.replace("PLACE", repr(self.notes.path)).replace("BROKEN", repr(broken))
        self.script.write_text(text.replace("VERSION", str(version)))
        return self.command("deploy", str(self.script), "--name", self.name)

    def pids(self) -> list[int]:
        root = session.current().root
        return [one.owner.pid for one in living(root) if one.deployment == self.name]


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(tmp_path)
    yield made
    if made.pids():
        made.command("stop", made.name)
    session.close("the test is over")


def test_a_script_serves_until_it_is_stopped(deployment: Deployment) -> None:
    done = deployment.deploy(1)
    assert done.returncode == 0, done.stderr
    names = f"{deployment.app}/Model, {deployment.app}/square"
    assert f"{deployment.name} serves {names}" in done.stdout
    model = lm.Cls.from_name(deployment.app, "Model")()
    assert model.version.remote() == 1
    assert lm.Function.from_name(deployment.app, "square").remote(3) == 9

    [pid] = deployment.pids()
    assert os.getsid(pid) == pid  # no terminal's end reaches it
    listed = deployment.command("ps").stdout
    assert f"deployment {deployment.name} serves {deployment.app}/Model" in listed
    assert "Model" in listed.partition("deployment")[0]
    rows = deployment.command("apps").stdout
    assert re.search(rf"{deployment.app} +Model +class +deployment {deployment.name} ", rows)
    assert re.search(rf"{deployment.app} +square +function ", rows)

    stopped = deployment.command("stop", deployment.name)
    assert stopped.returncode == 0, stopped.stderr
    assert f"{deployment.name} is stopped" in stopped.stdout
    assert "Model" in stopped.stdout
    assert deployment.notes.count("exit-1") == 1
    with pytest.raises(NotFoundError, match="ended, and no other session serves it"):
        model.version.remote()
    again = deployment.command("stop", deployment.name)
    assert again.returncode == 1
    assert f"no deployment is named '{deployment.name}'" in again.stderr


def test_a_newer_deployment_takes_over_and_no_call_is_lost(deployment: Deployment) -> None:
    assert deployment.deploy(1).returncode == 0
    model = lm.Cls.from_name(deployment.app, "Model")()
    versions: list[int] = []
    failed: list[BaseException] = []
    over = threading.Event()

    def call() -> None:
        while not over.is_set():
            try:
                versions.append(model.version.remote())
            except BaseException as error:
                failed.append(error)
                return

    started = model.hold.spawn("a")
    deployment.notes.wait("began-a")
    caller = threading.Thread(target=call)
    caller.start()
    wait_for(lambda: versions, "a call of the first version")
    [first] = deployment.pids()
    done = deployment.deploy(2)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: 2 in versions or failed, "a call of the second version")
    over.set()
    caller.join()
    assert not failed
    assert versions == sorted(versions)
    assert deployment.notes.count("exit-1") == 0  # it waits for the call that runs there
    deployment.notes.note("go-a")
    assert started.get(timeout=60) == "a-1"
    deployment.notes.wait("exit-1")
    wait_for(lambda: not Path(f"/proc/{first}").exists(), "the end of the first process")
    [second] = deployment.pids()
    assert second != first


def test_a_deployment_that_fails_leaves_the_older_one(deployment: Deployment) -> None:
    assert deployment.deploy(1).returncode == 0
    before = deployment.pids()
    done = deployment.deploy(2, broken=True)
    assert done.returncode == 1
    assert "no weights" in done.stderr
    assert f"{deployment.name} does not serve; the log is" in done.stderr
    assert deployment.pids() == before
    assert lm.Cls.from_name(deployment.app, "Model")().version.remote() == 1


def test_an_app_without_a_name_gets_that_of_the_deployment(deployment: Deployment) -> None:
    assert deployment.deploy(1, app="").returncode == 0
    assert lm.Cls.from_name(deployment.name, "Model")().version.remote() == 1


def test_what_can_not_be_deployed_is_refused(deployment: Deployment) -> None:
    deployment.script.write_text("x = 1\n")
    done = deployment.command("deploy", str(deployment.script), "--name", deployment.name)
    assert done.returncode == 1
    assert "model.py declares no class or function. Fix:" in done.stderr
    done = deployment.command("deploy", str(deployment.script), "--name", "a/b")
    assert "'a/b' can't be the name of a deployment" in done.stderr
    done = deployment.command("deploy", "nothing.py")
    assert "nothing.py is not a file" in done.stderr
