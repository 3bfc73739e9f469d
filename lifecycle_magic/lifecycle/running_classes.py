"""The classes that sessions run, on disk for ``why`` and ``diff`` of other processes.

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

__all__ = ["RunningClass", "read_all"]

_MAX_SOURCE_CHARS = 1 << 18


@dataclass(frozen=True)
class RunningClass:
    """A class as it was deployed last.

    ``service`` is its key in the session, ``at`` the time in seconds since the epoch, ``did`` what
    the deployment changed and why, ``source`` its text, "" if that is unknown.
    """

    cls: str
    service: str
    app: str
    engine: str
    at: float
    did: str
    source: str

    def write(self, session: Path) -> None:
        """Write the record into the folder of a session. Raises nothing if the disk is full."""
        digest = hashlib.sha256(self.service.encode()).hexdigest()[:16]
        path = session / f"running-{digest}.json"
        cut = {**asdict(self), "source": self.source[:_MAX_SOURCE_CHARS]}
        with contextlib.suppress(OSError):
            write_private(path, json.dumps(cut))

    @classmethod
    def read(cls, path: Path) -> RunningClass:
        """Read a record. Raises `OSError` if there is none, and `ValueError` if it is invalid."""
        stored = run_files.read_object(path)
        texts = {
            name: checked_json.string(name, stored.get(name))
            for name in ("cls", "service", "app", "engine", "did", "source")
        }
        return cls(at=checked_json.number("at", stored.get("at")), **texts)


def read_all(session: Path) -> list[RunningClass]:
    """Return the valid records in the folder of a session, the newest last."""
    found = []
    for path in matching(session, "running-*.json"):
        with contextlib.suppress(OSError, ValueError):
            found.append(RunningClass.read(path))
    return sorted(found, key=lambda one: one.at)
