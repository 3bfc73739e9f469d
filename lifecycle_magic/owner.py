"""Whose session it is, told so that it is true after a reboot and after a pid came round again."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """A process: its pid, when it started in clock ticks since boot, and which boot that was."""

    pid: int
    started: str
    boot: str

    @classmethod
    def me(cls) -> Owner:
        return cls(os.getpid(), _started(os.getpid()) or "", _boot())

    def alive(self) -> bool:
        """Whether this very process still runs, on this boot of this machine."""
        return self.boot == _boot() and _started(self.pid) == self.started

    @property
    def of_this_boot(self) -> bool:
        """Whether the machine has not gone down since; what it had started may then still run."""
        return self.boot == _boot()

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Owner | None:
        """None if there is no such file, or none that makes sense."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""  # no Linux: the pid and its start have to do


def _started(pid: int) -> str | None:
    """Field 22 of /proc/<pid>/stat, proc(5); the name in field 2 may hold spaces and
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
