"""The processes that a worker's calls started, for the interrupt of one of those calls.

As in a terminal, an interrupt reaches the processes of the worker's group. But it is for one call:
processes that ``enter`` or an earlier call started continue, and so do those that ``enter``'s
processes start.

The worker reports each process that it starts, with the call that runs then. A process that was
started in another way (``os.system``, C code, another process) is judged by its start time, which
the system gives in hundredths of a second, on the clock of `lifecycle_magic.wire.clock`. Reports
may be read late, when the first call runs already: nothing is judged by when that is.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from typing import NamedTuple

ENTERING = 0  # stands for the call id while the constructor and enter run
_TICKS = os.sysconf("SC_CLK_TCK")  # a second
_PRUNE_FROM = 256  # entries from which those of exited processes are dropped


class Process(NamedTuple):
    """A process as ``/proc`` shows it. ``started`` is in clock ticks since the machine started."""

    pid: int
    parent: int
    group: int
    started: int


class Processes:
    """The known processes of one worker."""

    def __init__(self, worker: int) -> None:
        self._worker = worker
        self._calls: dict[tuple[int, int], int] = {}  # by pid and time of start
        self._of_enter: set[tuple[int, int]] = set()

    def record_start(self, pid: int, call: int) -> None:
        """Record that the worker started ``pid`` while ``call`` ran."""
        process = read_process(pid)
        if process is None:
            return  # the process has exited
        if len(self._calls) >= _PRUNE_FROM:
            alive = {(one.pid, one.started) for one in every_process()}
            self._calls = {key: call for key, call in self._calls.items() if key in alive}
        self._calls[pid, process.started] = call

    def record_entered(self, at: float, descendants: Collection[int]) -> None:
        """Record that ``enter`` ended at ``at``, in `clock` time, when the worker had these
        ``descendants``.
        """
        tick = int(at * _TICKS)
        self._of_enter = {
            (one.pid, one.started)
            for one in self._group(_read_table())
            if one.started < tick or (one.started == tick and one.pid in descendants)
        }

    def reached_by(self, call: int, since: float) -> list[int]:
        """Return the pids that an interrupt of ``call`` reaches. ``since`` is when the call
        began.
        """
        ticks = int(since * _TICKS)
        table = _read_table()
        return [one.pid for one in self._group(table) if self._is_reached(one, call, ticks, table)]

    def _group(self, table: dict[int, Process]) -> list[Process]:
        return [
            one
            for one in table.values()
            if one.group == self._worker and one.pid not in (self._worker, os.getpid())
        ]

    def _is_reached(
        self, process: Process, call: int, since: int, table: dict[int, Process]
    ) -> bool:
        found: bool | None = None
        one: Process | None = process
        while one is not None and one.pid != self._worker:
            key = (one.pid, one.started)
            noted = self._calls.get(key)
            if (key in self._of_enter and not noted) or (noted == ENTERING and call != ENTERING):
                return False
            if noted is not None and found is None:
                found = noted == call or (one is not process and process.started > since)
            one = table.get(one.parent)
        return process.started >= since if found is None else found


def read_process(pid: int) -> Process | None:
    """Return what ``/proc`` shows of a process; None if the process has exited."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in parentheses may hold spaces and parentheses.
            fields = file.read().rpartition(b")")[2].split()
        return Process(pid, int(fields[1]), int(fields[2]), int(fields[19]))
    except (OSError, IndexError, ValueError):
        return None


def descendants(pid: int) -> list[int]:
    """Return the children of a process, their children, and so on; none where the system has no
    list of them.
    """
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    except OSError:
        pass  # it has exited meanwhile, or the kernel was built without
    return [*found, *(one for child in found for one in descendants(child))]


def every_process() -> Iterator[Process]:
    """Yield every process that is visible from here."""
    for name in os.listdir("/proc"):
        if name.isdigit() and (found := read_process(int(name))) is not None:
            yield found


def ignores(pid: int, signum: int) -> bool:
    """Return whether a process ignores this signal."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"SigIgn:"):
                    return bool(int(line.split()[1], 16) >> (signum - 1) & 1)
    except (OSError, ValueError, IndexError):
        pass
    return False


def _read_table() -> dict[int, Process]:
    try:
        return {one.pid: one for one in every_process()}
    except OSError:
        return {}
