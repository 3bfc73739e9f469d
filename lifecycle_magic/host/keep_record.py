"""The records of containers that wait for another kernel when theirs has exited.

A record is stored in the session's folder, next to the container's run folder and not in it: code
in the container must not read the token, nor say for whom the container waits. A kernel that adopts
the container writes itself into the record first; a lock makes that exclusive.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifecycle_magic.host import checked_json, run_files
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.host.paths import matching, private_folder
from lifecycle_magic.host.private_file import write_private

__all__ = ["KeepRecord", "claiming", "find_all"]

_PREFIX = "keep-"


@dataclass(frozen=True)
class KeepRecord:
    """The record of a container that may wait for another kernel.

    ``key`` is the key of its class ``cls`` in a session. ``notebook`` identifies the notebook, or
    the folder of a program without one. ``state`` is the digest of what needs a new container when
    it changes, ``image`` the engine's id of its image. ``keep`` and ``grace`` are seconds,
    ``memory`` is MiB. ``session`` is the id of the session that it belongs to, and ``owner`` that
    session's process.
    """

    cls: str
    key: str
    notebook: str
    engine: str
    state: str
    image: str
    python: str
    protocol: int
    token: str
    keep: float
    grace: float
    memory: int | None
    gpu: str | None
    session: str
    owner: Owner
    run_dir: Path

    @property
    def container(self) -> str:
        """The name of the container."""
        return self.run_dir.name

    def write(self) -> None:
        """Write the record, either whole or not at all."""
        path = path_of(self.run_dir)
        content = dataclasses.asdict(self)
        del content["run_dir"]
        write_private(path, json.dumps(content))

    @classmethod
    def read(cls, run_dir: Path) -> KeepRecord | None:
        """Return the record of the container with this run folder; None if there is no valid
        one.
        """
        try:
            stored = run_files.read_object(path_of(run_dir))
            return cls(**_checked(stored), run_dir=run_dir)
        except (OSError, ValueError):
            return None


def path_of(run_dir: Path) -> Path:
    """Return the path of the record of the container with this run folder."""
    return run_dir.with_name(f"{_PREFIX}{run_dir.name}.json")


def find_all(root: Path, session: str | None = None) -> list[KeepRecord]:
    """Return the records of all containers in the state folder ``root`` whose kernel is dead.

    ``session`` adds those that this living session has claimed.
    """
    found = []
    for path in sorted(matching(root / "run", f"[!.]*/{_PREFIX}*.json")):
        name = path.name.removeprefix(_PREFIX).removesuffix(".json")
        record = KeepRecord.read(path.with_name(name))
        if record is not None and (record.session == session or not record.owner.alive()):
            found.append(record)
    return found


def forget(run_dir: Path) -> None:
    """Remove the record of the container with this run folder, if there is one."""
    with contextlib.suppress(OSError):
        path_of(run_dir).unlink()


@contextlib.contextmanager
def claiming(root: Path) -> Iterator[None]:
    """Keep other kernels from claiming containers until the block ends."""
    # The operating system releases the lock when the process ends, even if it is killed.
    with (private_folder(root / "locks") / "keep").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _checked(stored: dict[str, Any]) -> dict[str, Any]:
    texts = ("cls", "key", "notebook", "engine", "state", "image", "python", "token", "session")
    return {
        **{name: checked_json.string(name, stored.get(name)) for name in texts},
        "protocol": checked_json.integer("protocol", stored.get("protocol")),
        "keep": checked_json.number("keep", stored.get("keep")),
        "grace": checked_json.number("grace", stored.get("grace")),
        "memory": checked_json.integer_or_none("memory", stored.get("memory")),
        "gpu": checked_json.string_or_none("gpu", stored.get("gpu")),
        "owner": Owner.of(stored.get("owner")),
    }
