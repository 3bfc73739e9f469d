"""``lifecycle-magic drain``: end every session of this user and wait for the exit hooks.

Use it to shut down a machine that is itself a container. When its process 1 exits, the Linux kernel
kills every other process in it, exit hooks included, so process 1 has to wait until they have run.
A session ends as on a shutdown: the process that owns it gets SIGTERM, and its containers, on any
engine, notice that their owner has exited.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lifecycle_magic.container import kept
from lifecycle_magic.engines.base import Engine
from lifecycle_magic.engines.process import process_table
from lifecycle_magic.exception import EngineError, InvalidError
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.host.paths import matching
from lifecycle_magic.lifecycle.report import Report
from lifecycle_magic.ui.panel.snapshot import RunFolder, run_folders

__all__ = ["DrainResult", "drain"]

POLL_SECONDS = 0.1
"""Time between two checks of what still runs."""


@dataclass(frozen=True)
class DrainResult:
    """The result of a drain: ``left`` has a line for each container or process that still runs."""

    left: tuple[str, ...]


def drain(
    root: Path,
    seconds: float,
    *,
    living: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> DrainResult:
    """Wait at most ``seconds`` until every container of the sessions below ``root`` has exited.

    With ``living``, sessions whose owner still runs are ended first; otherwise they and their
    containers keep running. ``say`` is called with a line for each container that exited.
    """
    deadline = time.monotonic() + seconds
    engines = _Engines()
    asked: set[Owner] = set()
    known: dict[Path, RunFolder] = {}
    if living:
        kept.stop_all([one.record for one in kept.find_all(root)], "lifecycle-magic drain")
    while True:
        # List what runs before sending SIGTERM: some containers exit faster than one check takes.
        running = {
            folder.path: folder
            for folder in run_folders(root)
            if _ends(folder.owner, living) and not folder.is_kept and engines.runs(folder)
        }
        if living:
            asked |= _ask(root, asked, say)
        for path in known.keys() - running.keys():
            say(_ended(known[path]))
        known = running
        waited_for = [owner for owner in asked if owner.alive()]
        left = deadline - time.monotonic()
        if (not running and not waited_for) or left <= 0:
            break
        process_table.wait_gone(waited_for, min(POLL_SECONDS, left)) if waited_for else time.sleep(
            POLL_SECONDS
        )
    return DrainResult((*map(_runs_on, running.values()), *map(_lives_on, waited_for)))


def _ends(owner: Owner | None, living: bool) -> bool:
    """Return whether the containers of ``owner`` are exiting, or will be after SIGTERM."""
    return owner is None or not owner.alive() or (living and owner.pid not in _ancestors())


def _ask(root: Path, asked: set[Owner], say: Callable[[str], None]) -> set[Owner]:
    """Send SIGTERM to each living owner that has not had one; return those that got it now."""
    found = map(Owner.read, matching(root / "run", "*/owner.json"))
    living = {one for one in found if one is not None and one.alive() and _ends(one, True)}
    for owner in living - asked:
        with contextlib.suppress(OSError):  # the process has exited meanwhile
            os.kill(owner.pid, signal.SIGTERM)
            say(f"asked process {owner.pid} to end")
    return living - asked


def _ancestors() -> set[int]:
    """Return the pids of this process and its ancestors, which wait for this process."""
    found: set[int] = set()
    pid = os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        row = process_table.read(pid)
        pid = row.parent if row is not None else 0
    return found


class _Engines:
    """The engines that containers run on, each created on first use."""

    def __init__(self) -> None:
        self._made: dict[str, Engine] = {}

    def runs(self, folder: RunFolder) -> bool:
        """Return whether the container still runs; False if its engine does not answer."""
        try:
            found = self._engine(folder.engine).containers()
        except (EngineError, InvalidError):  # a context may have been removed
            return False
        return any(one.name == folder.container and one.running for one in found)

    def _engine(self, name: str) -> Engine:
        if name not in self._made:
            if name == "process":
                from lifecycle_magic.engines.process.engine import ProcessEngine

                self._made[name] = ProcessEngine()
            else:
                from lifecycle_magic.engines.choose import docker_engine

                self._made[name] = docker_engine(name)
        return self._made[name]


def _ended(folder: RunFolder) -> str:
    name = f"{folder.cls} ({folder.container})"
    report = Report.from_run_folder(folder.path)
    if report is None:
        return f"{name} exited"  # another session has moved its report into the history
    took = ""
    if report.exit_began is not None:
        took = f"; its exit took {report.ended - report.exit_began:.1f} s"
    return f"{name} exited: {report.summary()}{took}"


def _runs_on(folder: RunFolder) -> str:
    return f"{folder.cls} ({folder.container}) still runs"


def _lives_on(owner: Owner) -> str:
    return f"process {owner.pid}, which owns a session, did not exit after SIGTERM"
