"""Classes that living sessions of this user serve by name: a record in the folder of each session.

The record says how to connect: next to it are the socket and the token, readable by this user
alone. A reader trusts a record only if this user owns it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifecycle_magic.host import checked_json, run_files
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.host.paths import matching
from lifecycle_magic.host.private_file import write_private

__all__ = ["FOLDER", "Served", "label_of_this_process", "living", "newest"]

FOLDER = ".named"
"""The folder with record, socket and token, in the folder of a session."""

_RECORD = "served.json"


@dataclass(frozen=True)
class Served:
    """One session: who it is, how to speak to it, and what it serves.

    ``names`` maps the names of apps to those of their classes, with "class" or "function" for each.
    ``deployment`` is its name if ``lifecycle-magic deploy`` started it; of several sessions of one
    deployment, the one that began last serves. ``began`` is in seconds since the epoch.
    """

    session: str
    folder: Path
    owner: Owner
    label: str
    protocol: int
    python: str
    began: float
    names: Mapping[str, Mapping[str, str]]
    deployment: str = ""

    @property
    def who(self) -> str:
        """The session in words."""
        return f"session {self.session} ({self.label}, process {self.owner.pid})"

    @property
    def address(self) -> str:
        """The address of its socket."""
        return f"unix:{self.folder / FOLDER / 'sock'}"

    def token(self) -> str:
        """Return the token that a caller needs. Raises `OSError` if it can't be read."""
        return run_files.read_text(self.folder / FOLDER / "token", 4096).strip()

    def serves(self, app: str, name: str) -> bool:
        """Return whether the session serves a class or function of this name."""
        return name in self.names.get(app, ())

    def write(self) -> None:
        """Write the record, in place of an earlier one."""
        content = {
            "label": self.label,
            "protocol": self.protocol,
            "python": self.python,
            "began": self.began,
            "names": {app: dict(names) for app, names in self.names.items()},
            "deployment": self.deployment,
        }
        write_private(self.folder / FOLDER / _RECORD, json.dumps(content))

    def remove(self) -> None:
        """Remove the record: no new caller comes."""
        (self.folder / FOLDER / _RECORD).unlink(missing_ok=True)

    @classmethod
    def read(cls, folder: Path) -> Served | None:
        """Return the record of the session with this folder, None if there is no valid one."""
        path = folder / FOLDER / _RECORD
        owner = Owner.read(folder / "owner.json")
        try:
            if owner is None or os.lstat(path).st_uid != os.geteuid():
                return None
            return cls._of(folder, owner, run_files.read_object(path))
        except (OSError, ValueError):
            return None

    @classmethod
    def _of(cls, folder: Path, owner: Owner, record: Mapping[str, Any]) -> Served:
        names = record.get("names")
        if not isinstance(names, dict):
            raise ValueError("names can't be of this type")
        checked = {}
        for app, inner in names.items():
            if not isinstance(inner, dict):
                raise ValueError("names can't be of this type")
            checked[app] = {one: checked_json.string(one, sort) for one, sort in inner.items()}
        return cls(
            session=folder.name,
            folder=folder,
            owner=owner,
            label=checked_json.string("label", record.get("label")),
            protocol=checked_json.integer("protocol", record.get("protocol")),
            python=checked_json.string("python", record.get("python")),
            began=checked_json.number("began", record.get("began")),
            names=checked,
            deployment=checked_json.string("deployment", record.get("deployment")),
        )


def living(root: Path) -> Iterator[Served]:
    """Yield the records of the living sessions below ``root``, in the order of their ids."""
    for path in sorted(matching(root / "run", f"*/{FOLDER}/{_RECORD}")):
        found = Served.read(path.parent.parent)
        if found is not None and found.owner.alive():
            yield found


def newest(found: list[Served]) -> list[Served]:
    """Return the sessions without those that a later one of the same deployment replaces."""
    last = {one.deployment: one for one in sorted(found, key=lambda one: one.began)}
    return [one for one in found if not one.deployment or last[one.deployment] is one]


def label_of_this_process() -> str:
    """Return what a user calls this process: the notebook's file, the script, or the program."""
    notebook = os.environ.get("JPY_SESSION_NAME")
    if notebook:
        return os.path.basename(notebook)
    if "ipykernel" in sys.modules:
        return "a notebook"
    return os.path.basename(sys.argv[0] if sys.argv else "") or "python"
