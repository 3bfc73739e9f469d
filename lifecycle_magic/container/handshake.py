"""The handshake: a container connects to the kernel and proves that it is the expected one.

The kernel listens and the container connects, with one control connection and, for each slot, one
data connection and (over Unix sockets) one to pass memory over. Each must present the one-time
token that is stored in the run folder. The listener closes when all of them have connected.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from lifecycle_magic.container.newcomers import Newcomers
from lifecycle_magic.container.slots import Plan
from lifecycle_magic.engines.base import Engine
from lifecycle_magic.exception import EngineError, StartError, StartTimeout
from lifecycle_magic.host import run_files
from lifecycle_magic.wire import begun_page, descriptors, hello, shared, ticket_fifo
from lifecycle_magic.wire.begun_page import BegunPageReader
from lifecycle_magic.wire.frames import Channel

__all__ = ["NOT_CONNECTED", "Handshake", "startup_timeout_error"]

NOT_CONNECTED = "the container did not connect to the kernel"

LIVENESS_CHECK_SECONDS = 1.0
"""Seconds between two checks whether the container is still running."""


class Handshake:
    """A listener for one container, open during a ``with`` block.

    ``sockets`` gets every socket that is opened or accepted; all of them are closed if the block
    raises. ``turns`` are the slots' FIFOs, each None where the container may be on another machine.
    ``begun`` is the page on which the worker records what it begins, if there is one.
    ``on_pending`` gets why the container does not run yet, when that changes.
    """

    def __init__(
        self,
        plan: Plan,
        engine: Engine,
        sockets: list[socket.socket],
        on_pending: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.tickets: Sequence[str | None] = [None] * plan.channels
        self.begun: BegunPageReader | None = None
        self._plan = plan
        self._engine = engine
        self._sockets = sockets
        self._token = secrets.token_urlsafe(32)
        self._newcomers: Newcomers | None = None
        self._on_pending = on_pending
        self._pending = ""

    def __enter__(self) -> Handshake:
        plan, run_dir = self._plan, self._plan.launch.run_dir
        if plan.adopted:
            self._remove_left()
        self._listener = self._engine.listen(run_dir)
        self._sockets.append(self._listener.sock)
        try:
            address = self._listener.address
            boot = hello.BootFile(address, self._token, plan.launch.name, plan.channels, plan.grace)
            boot.write(str(run_dir / "boot.json"))
            self._make_room()
            if self._listener.shares_files:
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
        if self._newcomers is not None:
            self._newcomers.close()
        for sock in self._sockets if failed else ():
            sock.close()
        if failed and self.begun is not None:
            self.begun.freeze()
        self._listener.sock.close()
        (self._plan.launch.run_dir / "sock").unlink(missing_ok=True)

    def _make_room(self) -> None:
        try:
            descriptors.make_room(self._plan.channels)
        except OSError as error:
            if explained := descriptors.explain(error):
                raise StartError(f"{self._plan.cls}: {explained}") from None
            raise StartError(
                f"{self._plan.cls}: {error}. "
                "Fix: lower @concurrent(max_inputs=...), or raise that limit"
            ) from None

    def _share_files(self, run: str) -> None:
        channels = range(self._plan.channels)
        paths = [ticket_fifo.path(run, slot) for slot in channels]
        for path in () if self._plan.adopted else paths:
            os.mkfifo(path, 0o600)
        self.tickets = paths
        is_new = not self._plan.adopted
        self.begun = BegunPageReader(begun_page.path(run), self._plan.channels, is_new=is_new)

    def _remove_left(self) -> None:
        """Remove what a kernel left that exited while it adopted this container."""
        for name in ("boot.json", "sock"):
            (self._plan.launch.run_dir / name).unlink(missing_ok=True)

    def wait_for_connections(
        self, container: str, deadline: float, check_wanted: Callable[[], None]
    ) -> tuple[socket.socket, list[Channel]]:
        """Return the control connection, and the data connections in the order of the slots.

        ``container`` is the engine's id of the container. ``check_wanted`` is called while no
        connection arrives, and raises if the container is not wanted any more. Raises
        `StartTimeout` at ``deadline`` (of `time.monotonic`), `StartError` if the container has
        exited, and `HandshakeError` for a peer of another version.
        """
        listener = self._listener.sock
        most = self._plan.channels
        shares = self._listener.shares_files
        control: socket.socket | None = None
        data: dict[int, Channel] = {}
        sides: dict[int, socket.socket] = {}
        newcomers = self._newcomers = Newcomers(
            listener, self._token, self._sockets, any_python=self._plan.any_python
        )
        looked = time.monotonic()
        while control is None or len(data) < most or (shares and len(sides) < most):
            left = deadline - time.monotonic()
            if left <= 0:
                raise startup_timeout_error(self._plan, NOT_CONNECTED, self._pending)
            admitted = newcomers.admit(min(left, LIVENESS_CHECK_SECONDS))
            if admitted is None or time.monotonic() - looked > LIVENESS_CHECK_SECONDS:
                looked = time.monotonic()
                check_wanted()
                self._check_running(container, check_wanted)
            if admitted is None:
                continue
            greeting, channel = admitted
            if greeting.role == hello.CONTROL:
                control = channel.sock
            elif greeting.role == hello.MEMORY:
                sides[greeting.slot] = channel.sock
            else:
                data[greeting.slot] = channel
        for slot, side in sides.items():
            data[slot].shared = shared.Shared(side, shared.SEGMENT_LIMIT_BYTES // most)
        return control, [data[slot] for slot in sorted(data)]

    def _check_running(self, container: str, check_wanted: Callable[[], None]) -> None:
        found = next((one for one in self._engine.containers() if one.id == container), None)
        if found is not None and found.running:
            if found.note != self._pending:
                self._pending = found.note
                self._on_pending(found.note)
            return
        check_wanted()  # what the kernel kills meanwhile did not end by itself
        if found is not None and found.note:
            where = f" on {found.node}" if found.node else ""
            raise StartError(
                f"the container of {self._plan.cls} did not start{where}: {found.note}."
                f"{self._start_log_of(container)}"
            )
        ended = self._engine.ended(container)
        code = "" if ended is None else f" (exit code {ended.exit_code})"
        raise StartError(
            f"the container of {self._plan.cls} exited before it connected to the kernel{code}. "
            f"Fix: use an image with a working python3.{self._start_log()}"
        )

    def _start_log_of(self, container: str) -> str:
        with contextlib.suppress(EngineError):
            self._engine.ended(container)  # the engine gets what it printed
        return self._start_log()

    def _start_log(self) -> str:
        text = ""
        with contextlib.suppress(OSError):
            text = run_files.read_text(self._plan.launch.run_dir / "start.log", 8000).strip()
        return f" It printed:\n{text[-2000:]}" if text else ""


def startup_timeout_error(plan: Plan, what: str, pending: str = "") -> StartTimeout:
    """Return the error for a container whose start exceeds startup_timeout.

    ``pending`` is why the engine had not started it, if it had not.
    """
    bound = f"{plan.cls}: {what} within startup_timeout={plan.startup_timeout:g} s"
    if pending:
        return StartTimeout(
            f"{bound}: {pending}. Fix: lower cpu=, memory= or gpu=, change placement=, free or "
            "add a node, or set a longer startup_timeout="
        )
    return StartTimeout(
        f"{bound}. "
        "Fix: set a longer startup_timeout=, or move downloads from enter into a @build hook"
    )
