"""The classes of a session whose deployment failed, on disk for the lists of other processes.

Each one is a file in the session's folder, which no container can write.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lifecycle_magic.host import checked_json, run_files
from lifecycle_magic.host.paths import matching
from lifecycle_magic.host.private_file import write_private

__all__ = ["FailedClass", "forget", "read_all"]

_MAX_ERROR_CHARS = 16_000


@dataclass(frozen=True)
class FailedClass:
    """A class that has no image and no container, because its deployment failed.

    ``service`` is its key in the session, ``engine`` the name of the engine, "" if none was found,
    ``failed`` the time in seconds since the epoch. ``error`` is the error's type and message.
    """

    cls: str
    service: str
    engine: str
    failed: float
    error: str

    def write(self, session: Path) -> None:
        """Write the record into the folder of a session. Raises nothing if the disk is full."""
        path = _path(session, self.service)
        cut = {**asdict(self), "error": self.error[-_MAX_ERROR_CHARS:]}
        with contextlib.suppress(OSError):
            write_private(path, json.dumps(cut))

    @classmethod
    def read(cls, path: Path) -> FailedClass:
        """Read a record. Raises `OSError` if there is none, and `ValueError` if it is invalid."""
        stored = run_files.read_object(path)
        texts = {
            name: checked_json.string(name, stored.get(name))
            for name in ("cls", "service", "engine", "error")
        }
        return cls(failed=checked_json.number("failed", stored.get("failed")), **texts)


def forget(session: Path, service: str) -> None:
    """Remove the record of a class, if there is one."""
    with contextlib.suppress(OSError):
        _path(session, service).unlink(missing_ok=True)


def read_all(session: Path) -> list[FailedClass]:
    """Return the valid records in the folder of a session, the oldest first."""
    found = []
    for path in matching(session, "failed-*.json"):
        with contextlib.suppress(OSError, ValueError):
            found.append(FailedClass.read(path))
    return sorted(found, key=lambda one: one.failed)


def _path(session: Path, service: str) -> Path:
    return session / f"failed-{hashlib.sha256(service.encode()).hexdigest()[:16]}.json"
