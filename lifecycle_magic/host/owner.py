"""The process that owns a session, identified so that neither a reboot nor a reused pid confuses
it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lifecycle_magic.host import checked_json


@dataclass(frozen=True)
class Owner:
    """A process: its pid, its start time in clock ticks since boot, and the id of that boot."""

    pid: int
    started: str
    boot: str

    @classmethod
    def me(cls) -> Owner:
        return cls(os.getpid(), _started(os.getpid()) or "", _boot())

    def alive(self) -> bool:
        """Return whether this process still runs, on this boot of this machine."""
        return self.boot == _boot() and _started(self.pid) == self.started

    @property
    def of_this_boot(self) -> bool:
        """Return whether the machine has not rebooted since. What the process started may then
        still run.
        """
        return self.boot == _boot()

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Owner | None:
        """Return the process recorded in the file ``path``, or None if the file is missing or
        invalid.
        """
        try:
            return cls.of(json.loads(path.read_text()))
        except (OSError, ValueError, RecursionError):
            return None

    @classmethod
    def of(cls, record: Any) -> Owner:
        """Return the process that a JSON object describes. Raises `ValueError` if it is none."""
        if not isinstance(record, dict):
            raise ValueError("an owner that is no JSON object")
        return cls(
            checked_json.integer("pid", record.get("pid")),
            checked_json.string("started", record.get("started")),
            checked_json.string("boot", record.get("boot")),
        )

    def label(self) -> str:
        """Return the process as the value of a container's label."""
        return json.dumps([self.pid, self.started, self.boot])

    @classmethod
    def of_label(cls, text: str) -> Owner | None:
        """Return the process recorded by `label`, or None if ``text`` is no such label."""
        try:
            pid, started, boot = json.loads(text)
            return cls.of({"pid": pid, "started": started, "boot": boot})
        except (ValueError, TypeError, RecursionError):
            return None


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""  # not Linux: pid and start time must do


def _started(pid: int) -> str | None:
    """Return the start time of a process, or None if it has exited.

    This is field 22 of /proc/<pid>/stat, see proc(5). The name in field 2 may hold spaces and
    parentheses.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return _started_elsewhere(pid)
    return None if fields[0] == b"Z" else fields[19].decode()


def _started_elsewhere(pid: int) -> str | None:
    if os.path.isdir("/proc/self"):
        return None
    import psutil  # type: ignore[import-untyped]

    try:
        return str(psutil.Process(pid).create_time())
    except psutil.Error:
        return None
