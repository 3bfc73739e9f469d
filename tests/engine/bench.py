"""An engine with a guest that evaluates what it is told, for the tests of the seam.

The guest is a few lines that dial home; the engine knows no more of the real one.
"""

from __future__ import annotations

import json
import secrets
import socket
from pathlib import Path
from typing import Any

import docker
from kernel.harness import wait_for

from lifecycle_magic.engines.base import LABEL, Engine, Launch
from lifecycle_magic.engines.docker.engine import DockerEngine
from lifecycle_magic.engines.process import process_table
from lifecycle_magic.engines.process.engine import ProcessEngine
from lifecycle_magic.engines.process.store import InstanceRecord, Store
from lifecycle_magic.host.paths import state_root
from lifecycle_magic.images.image import Image

GUEST = """
import json, os, signal, socket, subprocess, sys, threading

print("the guest says something early")
run = sys.argv[1]
with open(run + "/boot.json") as file:
    kind, _, where = json.load(file)["address"].partition(":")
if kind == "tcp":
    host, _, port = where.rpartition(":")
    sock = socket.create_connection((host, int(port)))
else:
    folder = os.open(os.path.dirname(where), os.O_PATH | os.O_DIRECTORY)
    sock = socket.socket(socket.AF_UNIX)
    sock.connect("/proc/self/fd/%d/%s" % (folder, os.path.basename(where)))
    os.close(folder)

def write(path, text):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)

def read(path):
    with open(path) as file:
        return file.read()

stream = sock.makefile("rw")
for line in stream:
    try:
        told = {"value": eval(json.loads(line))}
    except Exception as error:
        told = {"error": repr(error)}
    stream.write(json.dumps(told) + "\\n")
    stream.flush()
"""


class Far:
    """A container whose guest dialled home."""

    def __init__(self, id_: str, launch: Launch, sock: socket.socket) -> None:
        self.id = id_
        self.name = launch.name
        self.run_dir = launch.run_dir
        self._sock = sock
        self._stream = sock.makefile("rw")

    def ask(self, expression: str) -> Any:
        """What the guest makes of a Python expression."""
        told = self._evaluate(expression)
        assert "error" not in told, told["error"]
        return told["value"]

    def fails(self, expression: str) -> str:
        """The error that the guest makes of it."""
        return str(self._evaluate(expression)["error"])

    def _evaluate(self, expression: str) -> dict[str, Any]:
        self._stream.write(json.dumps(expression) + "\n")
        self._stream.flush()
        line = self._stream.readline()
        if not line:
            raise ConnectionResetError("the guest is gone")
        told: dict[str, Any] = json.loads(line)
        return told

    def hang_up(self) -> None:
        """Which ends the guest."""
        self._stream.close()
        self._sock.close()


class Bench:
    """One engine, a guest, and everything that was started, which ends with the test."""

    def __init__(self, engine: Engine, base: str, folder: Path) -> None:
        self.engine = engine
        self.base = base
        self.folder = folder
        self.guest = folder / "guest"
        self.guest.mkdir(mode=0o755)
        (self.guest / "__main__.py").write_text(GUEST)
        self.launched: list[str] = []
        self.volumes: list[str] = []
        self._far: list[Far] = []

    def run_dir(self, name: str) -> Path:
        run = self.folder / "run" / name
        run.mkdir(parents=True, mode=0o700)
        return run

    def describe(self, image: str | None = None, **options: Any) -> Launch:
        """A launch of ``image`` (the base, if none is named) with these options of `Launch`."""
        name = options.setdefault("name", f"lm-test-{secrets.token_hex(6)}")
        if "run_dir" not in options:
            options["run_dir"] = self.run_dir(name)
        options.setdefault("guest_dir", self.guest)
        options.setdefault("labels", {f"{LABEL}.session": "test", f"{LABEL}.class": "Test"})
        return Launch(image=image or self.base, **options)

    def start(self, image: str | None = None, **options: Any) -> Far:
        """Launch it, and wait until its guest has dialled home."""
        return self.launch(self.describe(image, **options))

    def launch(self, launch: Launch) -> Far:
        listener = self.engine.listen(launch.run_dir)
        with listener.sock as sock:
            sock.settimeout(60)
            (launch.run_dir / "boot.json").write_text(json.dumps({"address": listener.address}))
            container = self.engine.launch(launch)
            self.launched.append(container)
            accepted, _ = sock.accept()
        accepted.settimeout(60)
        self._far.append(Far(container, launch, accepted))
        return self._far[-1]

    def volume(self) -> str:
        """A name for a volume, which is removed in the end; some container has to have had it."""
        self.volumes.append(f"test-{secrets.token_hex(6)}")
        return self.volumes[-1]

    def close(self) -> None:
        for container in self.launched:
            self.engine.kill(container)
        for far in self._far:
            far.hang_up()
        for name in self.volumes:
            assert self.engine.remove_volume(name)


class DockerBench(Bench):
    """A bench of containers. What `image` builds goes with the test."""

    engine: DockerEngine

    def __init__(self, engine: DockerEngine, client: docker.DockerClient, folder: Path) -> None:
        super().__init__(engine, engine.base_id(Image.debian_slim()), folder)
        self.client = client
        self._built: list[str] = []

    def image(self, image: Image) -> str:
        self._built.append(self.engine.build(image, secrets.token_hex(32), lambda told: None))
        return self._built[-1]

    def close(self) -> None:
        super().close()
        for built in reversed(self._built):
            self.client.images.remove(built, force=True)


class ProcessBench(Bench):
    """A bench of processes. Its images are those of the whole test session."""

    engine: ProcessEngine

    def __init__(self, engine: ProcessEngine, folder: Path) -> None:
        self.engine = engine
        super().__init__(engine, self.image(Image.debian_slim()), folder)

    def image(self, image: Image) -> str:
        key = image.key(self.engine.base_id(image))
        return self.engine.find(key) or self.engine.build(image, key, lambda step: None)

    def record(self, far: Far) -> InstanceRecord:
        record = Store(state_root()).instance(far.name)
        assert record is not None
        return record

    def end(self, far: Far) -> None:
        """Let the guest end, and wait until its keeper has cleared up."""
        keeper = self.record(far).keeper
        far.hang_up()
        assert process_table.wait_gone([keeper], 60)

    def close(self) -> None:
        super().close()
        instances = state_root() / "instances"
        wait_for(lambda: not list(instances.iterdir()), "the keepers' removal of their instances")
