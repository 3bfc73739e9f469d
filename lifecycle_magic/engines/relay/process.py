"""The kernel's side of a relay: its start, and the requests to it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import threading
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifecycle_magic.engines.process.environments import base_python
from lifecycle_magic.engines.relay.kernels import TAKEOVER
from lifecycle_magic.exception import EngineError
from lifecycle_magic.wire import packed_files
from lifecycle_magic.wire.hello import dial

__all__ = ["PortSettings", "RelayConnection", "RelayProcess", "RelaySettings", "packed_guest"]

READY_SECONDS = 15.0
"""Seconds until a relay has said that it is ready. ssh gives up before."""

SERVE_SECONDS = 120.0
FATE_SECONDS = 5.0

_ROOT = Path(__file__).parents[3]
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from lifecycle_magic.engines.relay.relay import main; main()"
)

_TRAVELLING = ("callers", "decorators", "guest", "named", "threads", "wire")
"""Packages whose compiled files travel too: they are imported in every container."""

_controls: weakref.WeakSet[socket.socket] = weakref.WeakSet()
"""Sockets to relays. A forked child that kept one would hide the kernel's exit."""


def _in_forked_child() -> None:
    for sock in list(_controls):
        sock.close()


os.register_at_fork(after_in_child=_in_forked_child)


@dataclass(frozen=True)
class RelaySettings:
    """The settings of a relay: the engine's address and, for a tunnel to it, ssh's command.

    ``tls`` are the paths of the authority, the certificate and the key.
    """

    path: str = ""
    host: str = ""
    port: int = 0
    tls: tuple[str, str, str] | None = None
    verify: bool = True
    ssh: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class PortSettings:
    """Where a relay listens for containers that connect to it, and the files with which.

    ``host`` is empty for every address of this machine; ``port`` is 0 for any free one.
    ``identity`` holds the relay's certificate and key, ``authority`` that of the containers'.
    """

    host: str
    port: int
    authority: str
    identity: str


class RelayConnection:
    """A connection to a running relay. All methods may be called from any thread."""

    def __init__(self, control: socket.socket) -> None:
        self._lock = threading.Lock()
        self._numbers = 0
        self._answers: dict[int, _Answer] = {0: _Answer()}
        self._is_closed = False
        self._ending = ""
        self._control = control
        _controls.add(control)

    @classmethod
    def take_over(cls, run_dir: Path) -> RelayConnection:
        """Connect to the relay of a kept container, which belongs to this kernel from now on.

        The boot file in its run folder is sent to it. Raises `EngineError`.
        """
        try:
            relay = RelayConnection(dial(f"unix:{run_dir / TAKEOVER}"))
        except OSError as error:
            raise EngineError(f"the relay of {run_dir.name} does not answer: {error}") from None
        relay._start_reading()
        if why := relay._ask("take", FATE_SECONDS)["error"]:
            relay.close()
            raise EngineError(f"the relay of {run_dir.name} does not hand it over: {why}")
        return relay

    @property
    def is_alive(self) -> bool:
        """Return whether the relay still answers."""
        return not self._is_closed

    @property
    def ending(self) -> str:
        """Return why the relay has exited, once it has."""
        return self._ending or "the relay process has exited"

    def serve(self, container: str, run_dir: Path, guest: Path, seconds: float) -> str:
        """Attach to a created container, send it its files and start it.

        ``seconds`` is how long the container's end may take. Return the error, empty for none.
        """
        answer = self._ask(
            "serve",
            SERVE_SECONDS,
            container=container,
            run=str(run_dir),
            guest=str(guest),
            seconds=seconds,
        )
        return str(answer["error"])

    def expect(
        self,
        service: str,
        run_dir: Path,
        guest: Path | None,
        seconds: float,
        token: str,
        settings: PortSettings,
    ) -> int:
        """Let the container of a service connect with this token, and send it its files then.

        Return the port on which the relay listens. ``guest`` is sent too, if given. Raises
        `EngineError`.
        """
        answer = self._ask(
            "expect",
            SERVE_SECONDS,
            container=service,
            run=str(run_dir),
            guest=str(guest) if guest is not None else "",
            seconds=seconds,
            token=token,
            **dataclasses.asdict(settings),
        )
        if answer["error"]:
            raise EngineError(str(answer["error"]))
        return int(answer["port"])

    def kill(self, service: str) -> None:
        """Kill the processes of a service's container, and have the service removed."""
        self._send(do="kill", container=service)

    def keep(self, container: str, is_kept: bool) -> None:
        """Let a container outlive this kernel, or not any more."""
        self._send(do="keep", container=container, keep=is_kept)

    def put(self, container: str, run_dir: Path) -> None:
        """Send the modules in a run folder to its container, before what is sent to it later."""
        self._send(do="put", container=container, run=str(run_dir))

    def remove(self, container: str, seconds: float, *, is_service: bool = False) -> None:
        """Have a container, or the service of one, removed once it has ended, also after this
        process. Return at once.
        """
        self._send(do="remove", container=container, seconds=seconds, is_service=is_service)

    def fate(self, container: str) -> str:
        """Return why the stream of a container ended before the container did, if it did."""
        return str(self._ask("fate", FATE_SECONDS, container=container)["error"])

    def close(self) -> None:
        """Let the relay know that this session ends. It exits when its containers have ended."""
        self._is_closed = True
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        self._control.close()

    # --- lines -----------------------------------------------------------------------------

    def _ask(self, what: str, within: float, **fields: object) -> dict[str, Any]:
        with self._lock:
            self._numbers += 1
            number = self._numbers
            self._answers[number] = _Answer()
        self._send(do=what, number=number, **fields)
        return self._wait(number, within)

    def _send(self, **message: object) -> None:
        try:
            with self._lock:
                self._control.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self._end()

    def _wait(self, number: int, seconds: float) -> dict[str, Any]:
        answer = self._answers[number]
        try:
            if not answer.arrived.wait(seconds):
                return {"error": f"the relay did not answer within {seconds:g} s"}
            return answer.message
        finally:
            with self._lock:
                self._answers.pop(number, None)

    def _start_reading(self) -> None:
        threading.Thread(target=self._read, name="lifecycle-relay", daemon=True).start()

    def _read(self) -> None:
        lines = b""
        while True:
            try:
                data = self._control.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                break
            *whole, lines = (lines + data).split(b"\n")
            for line in whole:
                self._on_line(json.loads(line))
        self._end()

    def _on_line(self, message: dict[str, Any]) -> None:
        if message["event"] == "end":
            self._ending = str(message["error"])
            return
        with self._lock:
            answer = self._answers.get(int(message.get("number", 0)))
        if answer is not None:
            answer.message = message
            answer.arrived.set()

    def _end(self) -> None:
        self._is_closed = True
        self._control.close()
        with self._lock:
            waiting = list(self._answers.values())
        for answer in waiting:
            if not answer.arrived.is_set():
                answer.message = {"error": self.ending}
                answer.arrived.set()


class RelayProcess(RelayConnection):
    """A relay that this process has started. Raises `EngineError` with the reason if it does not
    start.
    """

    def __init__(self, settings: RelaySettings) -> None:
        control, theirs = socket.socketpair()
        super().__init__(control)
        given = {
            "control": theirs.fileno(),
            "path": settings.path,
            "host": settings.host,
            "port": settings.port,
            "tls": settings.tls,
            "verify": settings.verify,
            "ssh": list(settings.ssh),
        }
        command = [base_python(), "-I", "-S", "-c", _PROGRAM, str(_ROOT), json.dumps(given)]
        try:
            with theirs:
                process = subprocess.Popen(
                    command,
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            process.wait()  # it forks at once
        except OSError as error:
            self._control.close()
            raise EngineError(f"the relay could not be started: {error}") from None
        self._start_reading()
        if error_text := self._wait(0, READY_SECONDS)["error"]:
            self.close()
            raise EngineError(error_text)


class _Answer:
    """The answer to a request, once it has arrived. Its ``error`` is empty for none."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.message: dict[str, Any] = {"error": ""}


def packed_guest(folder: Path) -> Path:
    """Return the guest of ``folder`` as one packed file next to it, which is made once."""
    target = folder.with_name(f"{folder.name}.packed")
    if target.is_file():
        return target
    files = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        below = path.relative_to(folder)
        if path.suffix == ".pyc" and not _is_common(below):
            continue
        files[below.as_posix()] = path.read_bytes()
    part = folder.with_name(f".{folder.name}-{os.getpid()}-{threading.get_ident()}.packed")
    part.write_bytes(packed_files.pack(files))
    part.replace(target)
    return target


def _is_common(below: Path) -> bool:
    parts = below.parts
    if parts[0] != "lifecycle_magic" or len(parts) < 3:
        return True
    return parts[1] in (*_TRAVELLING, "__pycache__")
