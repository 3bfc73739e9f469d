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

from lifecycle_magic.container.container import Container
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.container.slots import Plan
from lifecycle_magic.engines.base import Ended, Engine, FoundContainer, Launch, Listener
from lifecycle_magic.handles.methods import Method
from lifecycle_magic.lifecycle.states import Event
from lifecycle_magic.pool.pool import Pool
from lifecycle_magic.pool.sizing import Limits
from lifecycle_magic.services import bundle
from lifecycle_magic.spec.class_spec import ClassSpec
from lifecycle_magic.spec.options import Options
from lifecycle_magic.spec.reading import read_class
from lifecycle_magic.threads.event_loop import EventLoop
from lifecycle_magic.wire.messages import Setup, Swap

_PARENT = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from lifecycle_magic.guest import failures, start, worker
for name in sys.argv[2:]:
    __import__(name)

signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # reaped by themselves
for line in sys.stdin.buffer:
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.close(null)
        os._exit(start.main(line.rstrip(b"\\n").decode()))
    sys.stdout.buffer.write(b"%d\\n" % pid)
    sys.stdout.buffer.flush()
"""


class ForkEngine:
    """The seam, as far as `Container` uses it."""

    name: Literal["process"] = "process"

    def __init__(self, imports: tuple[str, ...] = ("asyncio", "cloudpickle")) -> None:
        """``imports`` are there before a container starts, which makes the start faster."""
        self.root = Path(tempfile.mkdtemp(prefix="lm-fork-"))
        self._lock = threading.Lock()
        self._launched: list[FoundContainer] = []
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PARENT, str(bundle.guest_folder()), *imports],
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
        self._launched.append(FoundContainer(pid, launch.name, launch.labels, running=True))
        return pid

    def host_settings(
        self, launch: Launch, env: dict[str, str], *, hook: bool
    ) -> tuple[None, tuple[str, ...]]:
        """Return nothing: a fork has its surroundings."""
        return None, ()

    def clear_run_folder(self, container: str, run_dir: Path) -> None:
        """Do nothing: all that is written is this user's."""

    def keep(self, container: str, is_kept: bool) -> None:
        """Do nothing: no relay leads there."""

    def leaves_behind(self, run_dir: Path) -> bool:
        return False

    def discard(self, container: str) -> None:
        """Do nothing: there are only processes."""

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

    def containers(self) -> list[FoundContainer]:
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
        self.event_loop = EventLoop("forked-event-loop")
        self._engine = engine
        self._code = _by_value(cls)
        self._arguments = cloudpickle.dumps((args, {}))
        given = self.spec.options
        self.pool = Pool(
            cls.__name__,
            self._make,
            self.event_loop,
            limits=Limits.of(self.spec),
            timeout=given.timeout,
            retries=given.retries,
        )

        self.more_pools: list[Pool] = []  # closed at the end, too
        self.in_notebook = False  # as containers are told that start from now on

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *exc: object) -> None:
        for pool in (self.pool, *self.more_pools):
            pool.close("the test is over")
        for container in self.made:
            if not container.exited.wait(20):
                container.end(Ending(EndKind.KILL, "it did not go"), wait=True)
                container.exited.wait(20)
        looked = threading.Event()
        self.event_loop.call_soon(looked.set)
        looked.wait(20)  # at what the last ones left in their sockets, though nobody waits for it
        self.event_loop.stop()

    def __getattr__(self, name: str) -> Method:
        if name not in self.spec.methods:
            raise AttributeError(name)
        method = self.spec.methods[name]
        where = f"{self.spec.name}.{name}"
        return Method(name, lambda: method, where, lambda: self.pool, object, object)

    def swap(self, cls: type, sent: object = None) -> None:
        """Put the code of another class under what runs, as a cell that is run again does.

        ``sent`` goes to live instances in its place.
        """
        spec = read_class(cls, Options.make(cls.__name__))
        self._code = _by_value(cls)
        if sent is not None:
            other = type(cls.__name__, (cls,), {"sent": sent, "__module__": cls.__module__})
        self.pool.swap(Swap(_by_value(other) if sent else self._code, spec.exit))

    def alive(self) -> list[Container]:
        return [container for container in list(self.made) if not container.exited.is_set()]

    def _make(self, on_exited: Callable[[Container], None]) -> Container:
        name = f"c{secrets.token_hex(4)}"
        run_dir = self._engine.root / name
        run_dir.mkdir(mode=0o700)
        launch = Launch(name, "", run_dir, bundle.guest_folder(), {})
        spec = self.spec
        setup = Setup(
            *(self._code, self._arguments, spec.enter, spec.exit, {}, 1 << 24),
            in_notebook=self.in_notebook,
        )
        grace = min(spec.options.exit_grace, 10.0)
        plan = Plan(spec.name, launch, setup, spec.max_inputs, grace, 60.0, None)
        engine = cast(Engine, self._engine)
        container = Container(plan, engine, self.event_loop, self.events.append, on_exited)
        self.made.append(container)
        return container


def _by_value(cls: Any) -> bytes:
    return bundle.pack_class(cls).data
