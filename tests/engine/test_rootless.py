"""A user's own engine, without root: a whole life there, from the build to the kernel's SIGKILL.

``LIFECYCLE_MAGIC_ROOTLESS=all`` takes Podman too, as `make soak` does: beside other tests it takes
two minutes, a rootless Docker a quarter of that.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import docker
import pytest
from kernel.harness import wait_for
from rootless_engines import RootlessEngine, rootless_engine

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.xdist_group("podman")]

KINDS = ["docker", "podman"] if os.environ.get("LIFECYCLE_MAGIC_ROOTLESS") else ["docker"]

ROOT = Path(__file__).parents[2]

PROGRAM = """
import json, os, sys, time
sys.path.insert(0, sys.argv[1])
import lifecycle_magic as lm
from pathlib import Path

engine, notes = sys.argv[2:]
app = lm.App("rootless", engine=engine)
named = lm.Volume.from_name("rootless", create_if_missing=True)
secret = lm.Secret.from_dict({"TOKEN": "xyz-secret"})


@app.cls(
    volumes={"/notes": lm.Volume.from_path(notes), "/usr/lib/python3": named},
    secrets=[secret],
    memory=256,  # nothing limits it there
)
class Model:
    @lm.build()
    def prepare(self):
        Path("/built").write_text("by the hook")

    @lm.enter()
    def load(self):
        self.word = Path("/built").read_text()
        self.calls = 0

    @lm.method()
    def look(self):
        return [self.word, os.environ["TOKEN"], os.listdir("/usr/lib/python3")]

    @lm.method()
    def square(self, x):
        return x * x

    @lm.method()
    def hold(self):
        Path("/notes/holding").touch()
        time.sleep(1000)

    @lm.exit()
    def close(self):
        with open("/notes/diary", "a") as diary:
            diary.write("exited\\n")


model = Model()
print(json.dumps(model.look.remote()), flush=True)
print(json.dumps(list(model.square.map(range(10)))), flush=True)
app.stop()
print(json.dumps(Path(notes, "diary").read_text()), flush=True)
model.hold.remote()
"""


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", KINDS)
def test_a_class_lives_on_an_engine_without_root(
    kind: str, need_docker: docker.DockerClient
) -> None:
    with rootless_engine(kind, need_docker) as engine:
        notes = engine.folder / "notes"
        notes.mkdir()
        os.chown(notes, engine.uid, -1)
        live(engine, notes)


def live(engine: RootlessEngine, notes: Path) -> None:
    """Run the program as the engine's user, and kill it in a call."""
    state = f"LIFECYCLE_MAGIC_STATE={engine.folder}/state"
    words = (sys.executable, "-c", PROGRAM, str(ROOT), engine.url, str(notes))
    kernel = engine.python(state, *words)
    with kernel:
        assert kernel.stdout is not None
        assert kernel.stderr is not None
        told = []
        for _ in range(3):
            line = kernel.stdout.readline()
            assert line, kernel.stderr.read()
            told.append(json.loads(line))
        assert told[0] == ["by the hook", "xyz-secret", []]
        assert told[1] == [x * x for x in range(10)]
        assert told[2] == "exited\n"
        wait_for((notes / "holding").exists, "the call")
        assert (notes / "holding").stat().st_uid == engine.uid  # root there is the user here
        kernel.kill()
        kernel.stdout.close()
        kernel.stderr.close()
    wait_for(lambda: (notes / "diary").read_text() == "exited\n" * 2, "exit after the kernel")
