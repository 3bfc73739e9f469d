"""The record of a container on disk, for a later session that finds the container left behind.

The record is stored next to the container's run folder, not in it: the run folder is mounted into
the container, whose code can write anything there.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from lifecycle_magic.engines.process.keeper import remove_tree
from lifecycle_magic.host import checked_json, keep_record, run_files
from lifecycle_magic.host.private_file import write_private

__all__ = ["FILE_PATTERN", "ContainerRecord", "discard"]

FILE_PATTERN = "card-*.json"
"""The file names of all records in a session's folder."""


@dataclass(frozen=True)
class ContainerRecord:
    """A container's class and engine.

    ``address`` is the engine's, ``began`` the start in seconds since the epoch, ``memory`` the
    class's limit in MiB. A ``spare`` holds nothing of the user's.
    """

    cls: str
    engine: str
    began: float
    address: str | None = None
    spare: bool = False
    memory: int | None = None

    @staticmethod
    def path(run_dir: Path) -> Path:
        """Return the path of the record of the container with this run folder."""
        return run_dir.with_name(FILE_PATTERN.replace("*", run_dir.name))

    def write(self, run_dir: Path) -> None:
        """Write the record, either whole or not at all."""
        write_private(self.path(run_dir), json.dumps(asdict(self)))

    @classmethod
    def read(cls, run_dir: Path) -> ContainerRecord:
        """Read a record. Raises `OSError` if there is none, and `ValueError` if it is invalid."""
        stored = run_files.read_object(cls.path(run_dir))
        try:
            return cls(
                cls=checked_json.string("cls", stored.get("cls")),
                engine=checked_json.string("engine", stored.get("engine")),
                began=checked_json.number("began", stored.get("began")),
                address=checked_json.string_or_none("address", stored.get("address")),
                spare=checked_json.flag("spare", stored.get("spare", False)),
                memory=checked_json.integer_or_none("memory", stored.get("memory")),
            )
        except ValueError as error:
            raise ValueError(f"{cls.path(run_dir)} is no container record: {error}") from None


def discard(run_dir: Path) -> None:
    """Remove a container's run folder and record.

    The folder is renamed first, so that a late keeper does not write into it any more.
    """
    gone = run_dir.with_name(f".{run_dir.name}")
    with contextlib.suppress(OSError):
        run_dir.rename(gone)
    with contextlib.suppress(OSError):
        os.unlink(ContainerRecord.path(run_dir))
    keep_record.forget(run_dir)
    remove_tree(str(gone))
