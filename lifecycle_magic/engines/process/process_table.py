"""The processes of this machine that belong to an instance, read from /proc.

An instance is its keeper and everything below it. A keeper that was killed leaves orphans, so the
guest's environment contains a marker as well. A pid alone identifies nothing: it is always held
together with the process's start time and the machine's boot (`Owner`).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lifecycle_magic.host.owner import Owner

MARKER = "LIFECYCLE_MAGIC_INSTANCE"  # environment variable: the instance's name

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ProcessStat:
    """The used fields of /proc/<pid>/stat. ``cpu`` is seconds."""

    pid: int
    state: str
    parent: int
    started: int
    cpu: float

    def owner(self) -> Owner:
        """Return its identity, which stays true when another process reuses the pid."""
        return Owner(self.pid, str(self.started), Owner.me().boot)


def identify(pid: int) -> Owner | None:
    """Return the identity of a running process, or None if there is none with that pid."""
    row = read(pid)
    return None if row is None else row.owner()


def read(pid: int) -> ProcessStat | None:
    """Return one process, or None if it has exited."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The command name in parentheses may hold spaces and parentheses. Fields: proc_pid_stat(5).
    fields = text.rpartition(b")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / _TICKS
    return ProcessStat(pid, fields[0].decode(), int(fields[1]), int(fields[19]), cpu)


def belonging(name: str, keeper: Owner) -> list[ProcessStat]:
    """Return every process of the instance except its keeper, in one pass over /proc."""
    rows = [row for pid in _pids() if (row := read(pid)) is not None]
    found = _below(rows, keeper.pid) if keeper.alive() else {}
    for row in rows:
        if row.pid not in found and row.pid != keeper.pid and _marked(row.pid, name):
            found[row.pid] = row
    return [row for row in found.values() if row.state != "Z"]


def below(keeper: Owner) -> list[ProcessStat]:
    """Return every process below the keeper, found by following children: a few files of /proc.

    It is fast enough to be called often. Orphans of a killed keeper are missing; `belonging` has
    them.
    """
    if not keeper.alive():
        return []
    try:
        waiting = _children(keeper.pid)
    except FileNotFoundError:  # a kernel built without CONFIG_PROC_CHILDREN
        rows = [row for pid in _pids() if (row := read(pid)) is not None]
        return [row for row in _below(rows, keeper.pid).values() if row.state != "Z"]
    found: dict[int, ProcessStat] = {}
    while waiting:
        pid = waiting.pop()
        row = read(pid)
        if row is not None and pid not in found:
            found[pid] = row
            with contextlib.suppress(OSError):  # it ended meanwhile
                waiting += _children(pid)
    return [row for row in found.values() if row.state != "Z"]


def _children(pid: int) -> list[int]:
    """Return the pids of its children; raises `OSError` if it has exited or they are unknown."""
    found: list[int] = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
            found += map(int, file.read().split())
    return found


def memory(rows: Iterable[ProcessStat]) -> int:
    """Return bytes of memory: each process's own pages, and shared memory once."""
    own = 0
    shared = 0
    for row in rows:
        values = {"RssAnon": 0, "RssShmem": 0}
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{row.pid}/status").read_text().splitlines():
                name, _, rest = line.partition(":")
                if name in values:
                    values[name] = int(rest.split()[0]) * 1024
        own += values["RssAnon"]
        shared = max(shared, values["RssShmem"])
    return own + shared


def kill_all(rows: Iterable[ProcessStat]) -> None:
    """Send SIGKILL to each process that is still the one that was seen."""
    for row in rows:
        now = read(row.pid)
        if now is not None and now.started == row.started:
            with contextlib.suppress(OSError):
                os.kill(row.pid, signal.SIGKILL)


def wait_gone(processes: Iterable[Owner], seconds: float) -> bool:
    """Wait until all of them ended, at most ``seconds``; whether they did."""
    deadline = time.monotonic() + seconds
    return all(_wait(process, deadline) for process in processes)


def _wait(process: Owner, deadline: float) -> bool:
    descriptor = _pidfd(process.pid)
    try:
        # Asked only now: the descriptor may be of a later process with the same pid.
        if not process.alive():
            return True
        if descriptor is None:
            while process.alive() and time.monotonic() < deadline:
                time.sleep(0.01)
            return not process.alive()
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        return bool(poller.poll(max(0.0, deadline - time.monotonic()) * 1000))
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _pidfd(pid: int) -> int | None:
    """Return a descriptor that becomes readable at the process's end (pidfd_open(2)).

    None where the process is gone, the kernel is older than 5.3, or Python was built for such a
    one, as Conda's are.
    """
    if sys.platform != "linux":
        raise NotImplementedError("only Linux can do this")
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):
        return None


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _below(rows: list[ProcessStat], top: int) -> dict[int, ProcessStat]:
    children: dict[int, list[ProcessStat]] = {}
    for row in rows:
        children.setdefault(row.parent, []).append(row)
    found: dict[int, ProcessStat] = {}
    waiting = [top]
    while waiting:
        for row in children.get(waiting.pop(), ()):
            found[row.pid] = row
            waiting.append(row.pid)
    return found


def _marked(pid: int, name: str) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"{MARKER}={name}".encode() in environment.split(b"\0")
