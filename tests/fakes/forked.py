"""An engine for tests whose containers start within milliseconds: the real guest, forked.

A process of its own imports the guest once and forks for each container that is ordered; what it
forks is the real supervisor with the real worker. Everything on the kernel's side is real as well:
`Container`, `Pool`, and whatever calls through them. There are no images, volumes or walls.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import cloudpickle

from lifecycle_magic.containers.container import Container
from lifecycle_magic.containers.slots import Plan
from lifecycle_magic.engines.base import Ended, Engine, Found, Launch, Listener
from lifecycle_magic.methods import Method
from lifecycle_magic.monitor import Monitor
from lifecycle_magic.options import Options
from lifecycle_magic.pools.pool import Pool
from lifecycle_magic.pools.sizing import Limits
from lifecycle_magic.services import bundle
from lifecycle_magic.spec import ClassSpec, read_class
from lifecycle_magic.state import Event
from lifecycle_magic.wire.messages import Setup, Swap

_PARENT = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import asyncio, cloudpickle
from lifecycle_magic.guest import failures, supervisor, worker

signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # reaped by themselves
for line in sys.stdin.buffer:
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os._exit(supervisor.main(line.rstrip(b"\\n").decode()))
    sys.stdout.buffer.write(b"%d\\n" % pid)
    sys.stdout.buffer.flush()
"""


class ForkEngine:
    """The seam, as far as `Container` uses it."""

    name: Literal["process"] = "process"

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="lm-fork-"))
        self._lock = threading.Lock()
        self._launched: list[Found] = []
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PARENT, str(bundle.guest_folder())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def listen(self, run_dir: Path) -> Listener:
        path = run_dir / "sock"
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        sock.listen()
        return Listener(sock, f"unix:{path}")

    def launch(self, launch: Launch) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(os.fsencode(launch.run_dir) + b"\n")
            self._process.stdin.flush()
            pid = self._process.stdout.readline().decode().strip()
        self._launched.append(Found(pid, launch.name, launch.labels, running=True))
        return pid

    def kill(self, container: str) -> None:
        """As an engine does: everything in the container ends at once."""
        pid = int(container)
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            os.kill(pid, signal.SIGSTOP)  # it starts no worker between the two looks
            for one in [*_children(pid), pid]:
                os.kill(one, signal.SIGKILL)

    def worker(self, container: str) -> int:
        """The process that runs the user's code."""
        return _children(int(container))[0]

    def freeze_worker(self, container: str) -> int:
        """Stop it: it reads and begins nothing more. Its pid, for whoever kills it."""
        worker = self.worker(container)
        os.kill(worker, signal.SIGSTOP)
        while not all(
            " T " in file.read_text() for file in Path(f"/proc/{worker}/task").glob("*/stat")
        ):
            os.sched_yield()
        return worker

    def ended(self, container: str) -> Ended | None:
        return None

    def containers(self) -> list[Found]:
        return [found for found in self._launched if Path(f"/proc/{found.id}").exists()]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Forked:
    """A class with a pool of its own on a `ForkEngine`. Use it in a ``with``.

    ``options`` are those of ``@app.cls``; ``events`` is what its containers published.
    """

    def __init__(self, engine: ForkEngine, cls: type, *args: Any, **options: Any) -> None:
        self.spec: ClassSpec = read_class(cls, Options.make(cls.__name__, **options))
        self.events: list[Event] = []
        self.made: list[Container] = []
        self.monitor = Monitor("forked-monitor")
        self._engine = engine
        self._code = _by_value(cls)
        self._arguments = cloudpickle.dumps((args, {}))
        given = self.spec.options
        self.pool = Pool(
            cls.__name__,
            self._make,
            self.monitor,
            limits=Limits.of(self.spec),
            timeout=given.timeout,
            retries=given.retries,
        )

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *exc: object) -> None:
        self.pool.close("the test is over")
        for container in self.made:
            if not container.gone.wait(20):
                container.kill("it did not go")
                container.gone.wait(20)
        looked = threading.Event()
        self.monitor.soon(looked.set)
        looked.wait(20)  # at what the last ones left in their sockets, though nobody waits for it
        self.monitor.stop()

    def __getattr__(self, name: str) -> Method:
        if name not in self.spec.methods:
            raise AttributeError(name)
        method = self.spec.methods[name]
        return Method(method, f"{self.spec.name}.{name}", lambda: self.pool, object, object)

    def swap(self, cls: type, sent: object = None) -> None:
        """Put the code of another class under what runs, as a cell that is run again does.

        ``sent`` goes to live instances in its place.
        """
        spec = read_class(cls, Options.make(cls.__name__))
        self._code = _by_value(cls)
        self.pool.swap(Swap(_by_value(sent) if sent else self._code, spec.exit))

    def alive(self) -> list[Container]:
        return [container for container in list(self.made) if not container.gone.is_set()]

    def _make(self, on_gone: Callable[[Container], None]) -> Container:
        name = f"c{secrets.token_hex(4)}"
        run_dir = self._engine.root / name
        run_dir.mkdir(mode=0o700)
        launch = Launch(name, "", run_dir, bundle.guest_folder(), {})
        spec = self.spec
        setup = Setup(self._code, self._arguments, spec.enter, spec.exit, {}, 1 << 24)
        plan = Plan(spec.name, launch, setup, spec.max_inputs, 10.0, 60.0, None)
        engine = cast(Engine, self._engine)
        container = Container(plan, engine, self.monitor, self.events.append, on_gone)
        self.made.append(container)
        return container


def _by_value(cls: Any) -> bytes:
    module = sys.modules[cls.__module__]
    cloudpickle.register_pickle_by_value(module)
    try:
        code: bytes = cloudpickle.dumps(cls)
        return code
    finally:
        cloudpickle.unregister_pickle_by_value(module)
