"""A container dials home: the door that is open for it alone, and who is let in.

The kernel listens, the container connects: one control connection, and for each slot a data
connection and, over Unix sockets, one that memory is passed over. Each has to prove the one-time
token that lies in the run folder. The door is closed when all of them have come.
"""

from __future__ import annotations

import os
import secrets
import select
import socket
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from lifecycle_magic.containers.slots import Plan
from lifecycle_magic.engines.base import Engine
from lifecycle_magic.exception import StartError, StartTimeout
from lifecycle_magic.wire import begun, hello, shared, turns
from lifecycle_magic.wire.begun import Begun
from lifecycle_magic.wire.descriptors import make_room
from lifecycle_magic.wire.frames import Channel

__all__ = ["Arrival", "late"]

LOOK = 1.0
"""Seconds between two looks whether the container still lives."""

SPEAK = 5.0
"""Seconds that a connection has to say who it is: ours speaks at once, a stranger may not hold
us up.
"""


class Arrival:
    """Open while the ``with`` runs. ``sockets`` gets every socket that is opened or let in; all of
    them are closed if the block raises.

    ``turns`` are the FIFOs of the slots, None where the container may be on another machine;
    ``begun`` is the page on which its worker notes what it begins, if there is one.
    """

    def __init__(self, plan: Plan, engine: Engine, sockets: list[socket.socket]) -> None:
        self.turns: Sequence[str | None] = [None] * plan.channels
        self.begun: Begun | None = None
        self._plan = plan
        self._engine = engine
        self._sockets = sockets
        self._token = secrets.token_urlsafe(32)

    def __enter__(self) -> Arrival:
        plan, run_dir = self._plan, self._plan.launch.run_dir
        self._listener = self._engine.listen(run_dir)
        self._sockets.append(self._listener.sock)
        try:
            address = self._listener.address
            boot = hello.Boot(address, self._token, plan.launch.name, plan.channels, plan.grace)
            boot.write(str(run_dir / "boot.json"))
            self._make_room()
            if address.startswith("unix:"):
                self._share_files(str(run_dir))
        except BaseException:
            self._close(failed=True)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close(failed=error is not None)

    def _close(self, failed: bool) -> None:
        for sock in self._sockets if failed else ():
            sock.close()
        self._listener.sock.close()
        (self._plan.launch.run_dir / "sock").unlink(missing_ok=True)

    def _make_room(self) -> None:
        try:
            make_room(self._plan.channels)
        except OSError as error:
            raise StartError(
                f"{self._plan.cls}: {error}. Lower @concurrent(max_inputs=), or raise that limit."
            ) from None

    def _share_files(self, run: str) -> None:
        channels = range(self._plan.channels)
        paths = [turns.path(run, slot) for slot in channels]
        for path in paths:
            os.mkfifo(path, 0o600)
        self.turns = paths
        self.begun = Begun(begun.path(run), self._plan.channels, create=True)

    def await_all(
        self, container: str, deadline: float, check_wanted: Callable[[], None]
    ) -> tuple[socket.socket, list[Channel]]:
        """The control connection, and the data connections in the order of the slots.

        ``container`` is the engine's id of it. ``check_wanted`` is called while none comes, and
        raises if it is not waited for any more. Raises `StartTimeout` at ``deadline``, of
        time.monotonic, `StartError` if it has ended, and `HandshakeError` for what is not ours.
        """
        listener = self._listener.sock
        most = self._plan.channels
        is_unix = listener.family == getattr(socket, "AF_UNIX", None)
        control: socket.socket | None = None
        data: dict[int, Channel] = {}
        sides: dict[int, socket.socket] = {}
        ready = select.poll()
        ready.register(listener, select.POLLIN)
        while control is None or len(data) < most or (is_unix and len(sides) < most):
            left = deadline - time.monotonic()
            if left <= 0:
                raise late(self._plan, "it did not dial home")
            if not ready.poll(min(left, LOOK) * 1000):
                check_wanted()
                self._check_running(container)
                continue
            admitted = self._admit(listener.accept()[0], is_unix)
            if admitted is None:
                continue
            told, channel = admitted
            if told.role == hello.CONTROL:
                control = channel.sock
            elif told.role == hello.MEMORY:
                sides[told.slot] = channel.sock
            else:
                data[told.slot] = channel
        for slot, side in sides.items():
            data[slot].shared = shared.Shared(side, shared.LIMIT // most)
        return control, [data[slot] for slot in sorted(data)]

    def _check_running(self, container: str) -> None:
        if any(found.id == container and found.running for found in self._engine.containers()):
            return
        ended = self._engine.ended(container)
        code = "" if ended is None else f" (exit code {ended.exit_code})"
        raise StartError(
            f"the container of {self._plan.cls} ended before it could dial home{code}. "
            f"Its image has to have a working python3.{self._start_log()}"
        )

    def _start_log(self) -> str:
        path = self._plan.launch.run_dir / "start.log"
        text = path.read_text(errors="replace").strip() if path.exists() else ""
        return f" It printed:\n{text[-2000:]}" if text else ""

    def _admit(self, sock: socket.socket, is_unix: bool) -> tuple[hello.Hello, Channel] | None:
        self._sockets.append(sock)
        sock.settimeout(SPEAK)
        if not is_unix:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        admitted = hello.admit(sock, self._token)
        if admitted is not None:
            sock.settimeout(None)
        return admitted


def late(plan: Plan, what: str) -> StartTimeout:
    """The error for a container that took longer than it may."""
    return StartTimeout(
        f"{plan.cls}: {what} within startup_timeout={plan.startup_timeout:g} s. "
        "Give it longer with startup_timeout=, or move downloads from enter into a @build hook."
    )
