"""The files of the process engine, below the state root.

    venvs/<id>/                 an environment, shared read-only by every image made from it
    images/<key>/root/          the snapshot: what the recipe and the build hooks wrote
    images/<key>/image.json     its labels, environment, working folder, environment's id
    instances/<name>/root/      one instance's own copy of a snapshot
    instances/<name>/instance.json   who keeps it, what it runs
    volumes/<name>/             named volumes

Images and instances are made under a temporary name beside their place and renamed when complete,
so a published folder is always complete. The temporary name identifies its creator, and by it
`clear_leftovers` finds those whose creator has exited.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifecycle_magic.engines.process.keeper import remove_tree
from lifecycle_magic.exception import EngineError
from lifecycle_magic.host import checked_json, disk_full
from lifecycle_magic.host import temporary_names as making
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.host.paths import private_folder

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")


@dataclass(frozen=True)
class ImageRecord:
    """The content of ``image.json``. ``venv`` is the id of its environment, which images may
    share; ``prefixes`` are the folders of its Python.
    """

    venv: str
    prefixes: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class InstanceRecord:
    """The content of ``instance.json``: all that another process needs to know about an
    instance.
    """

    name: str
    image: str
    venv: str
    run_dir: str
    keeper: Owner
    labels: Mapping[str, str] = field(default_factory=dict)
    volumes: Sequence[str] = ()  # names


class Store:
    """The folders below ``root``; each is created when it is first needed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, kind: str) -> Path:
        """Return the folder ``venvs``, ``images``, ``instances`` or ``volumes``; create it if
        missing.
        """
        return private_folder(self.root / kind)

    def place(self, kind: str, name: str) -> Path:
        """Return the path of ``name``; raises `EngineError` for a name that is no plain file
        name.
        """
        if not _SAFE.match(name):
            raise EngineError(
                f"{name!r} can't be a name below {self.root / kind}. Fix: use [A-Za-z0-9_.-]"
            )
        return self.root / kind / name

    @contextlib.contextmanager
    def making(self, kind: str, name: str) -> Iterator[Path]:
        """Yield a new empty folder for the block to fill and `publish`; otherwise it is removed."""
        self.place(kind, name)
        temporary = self.folder(kind) / making.temporary_name()
        temporary.mkdir(mode=0o700)
        try:
            yield temporary
        finally:
            remove_tree(str(temporary))

    @contextlib.contextmanager
    def new_venv(self) -> Iterator[Path]:
        """Yield a path for a new environment, which is removed unless an image refers to it at the
        end.

        It is created at its final path, because scripts contain the path of their interpreter.
        Meanwhile a folder of images is being created too, which protects it from `clear_leftovers`.
        """
        venv = self.folder("venvs") / uuid.uuid4().hex
        try:
            yield venv
        finally:
            if venv.name not in self._venvs_in_use():
                remove_tree(str(venv))

    def publish(self, temporary: Path, place: Path) -> bool:
        """Rename ``temporary`` to ``place``; return False if another process was faster."""
        try:
            temporary.rename(place)
        except OSError:
            if place.exists():
                return False
            raise
        return True

    def replace(self, temporary: Path, place: Path) -> None:
        """Rename ``temporary`` to ``place``, replacing what is there."""
        while not self.publish(temporary, place):
            self.discard(place)

    def discard(self, place: Path) -> None:
        """Remove a published folder; no process sees half of it."""
        with self.making(place.parent.name, place.name) as temporary:
            try:
                place.rename(temporary / "gone")
            except FileNotFoundError:
                return

    def clear_leftovers(self) -> list[str]:
        """Remove leftovers of crashed processes and environments without an image; return their
        names.
        """
        removed = []
        for kind in ("instances", "images"):
            for path in making.abandoned(self.folder(kind)):
                remove_tree(str(path))
                removed.append(f"leftover {kind}/{path.name}")
        if not any(self.folder("images").glob(".making-*")):
            used = self._venvs_in_use()
            for venv in self.folder("venvs").iterdir():
                if venv.name not in used:
                    remove_tree(str(venv))
                    removed.append(f"environment {venv.name}")
        return removed

    def _venvs_in_use(self) -> set[str]:
        records = [_read(self.folder("images") / key / "image.json") for key in self.images()]
        return {str(fields.get("venv")) for fields in records if fields} | {
            one.venv for one in self.instances()
        }

    # --- images ------------------------------------------------------------------------------

    def image(self, key: str) -> ImageRecord | None:
        """Return the record of a complete image whose environment still works; None otherwise."""
        text = _read(self.place("images", key) / "image.json")
        if text is None:
            return None
        try:
            record = _image(text)
        except (TypeError, ValueError):
            return None  # written by another version, or damaged
        if not _SAFE.match(record.venv):
            return None
        # exists() follows the link to the host's Python, which may have been uninstalled.
        python = self.place("venvs", record.venv) / "bin" / "python"
        return record if python.exists() and _is_whole(record, python) else None

    def images(self) -> list[str]:
        """Return the keys of all images."""
        return sorted(path.name for path in self.folder("images").iterdir() if path.name[0] != ".")

    # --- instances ---------------------------------------------------------------------------

    def instance(self, name: str) -> InstanceRecord | None:
        """Return the record of one instance, running or not; None if there is none."""
        fields = _read(self.place("instances", name) / "instance.json")
        if fields is None:
            return None
        try:
            return _instance(fields)
        except (TypeError, ValueError):
            return None  # written by another version, or damaged

    def instances(self) -> list[InstanceRecord]:
        """Return every recorded instance."""
        names = sorted(
            path.name for path in self.folder("instances").iterdir() if path.name[0] != "."
        )
        return [record for name in names if (record := self.instance(name)) is not None]

    def volumes(self) -> list[str]:
        """Return the names of all named volumes."""
        return sorted(path.name for path in self.folder("volumes").iterdir())


def _is_whole(record: ImageRecord, python: Path) -> bool:
    """Return whether the folders of an image's Python are known.

    Earlier versions recorded none: they only made images for the Python of their kernel, which may
    be another one than ours.
    """
    return bool(record.prefixes) or python.resolve().is_relative_to(sys.base_prefix)


def write(path: Path, record: ImageRecord | InstanceRecord) -> None:
    """Write a record into a folder that is being created."""
    path.write_text(json.dumps(dataclasses.asdict(record), indent=1) + "\n")


def copy_tree(source: Path, target: Path) -> None:
    """Copy the folder ``source`` to ``target`` with modes, links and times.

    On file systems that support it (btrfs, XFS) no data is copied. Raises `EngineError`.
    """
    target.mkdir(mode=0o700)
    if not any(source.iterdir()):
        return
    command = ["cp", "-a", "--reflink=auto", "--", f"{source}/.", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        message = done.stderr.strip()[-500:]
        raise EngineError(
            f"copying the snapshot {source} failed: {message}{disk_full.fix_line(message)}"
        )


def tree_size(folder: Path) -> int:
    """Return the bytes on disk of a folder's files; files that vanish meanwhile are not counted."""
    size = 0
    waiting = [str(folder)]  # no recursion: a user's code decides how deep it is
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    with contextlib.suppress(OSError):
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
    return size


def _image(fields: dict[str, Any]) -> ImageRecord:
    """Return the record of an image; raises `TypeError` or `ValueError` if it is invalid."""
    checked_json.string("venv", fields.get("venv"))
    checked_json.string_or_none("workdir", fields.get("workdir"))
    prefixes = fields.get("prefixes", [])
    if not isinstance(prefixes, list):
        raise TypeError("prefixes that are no list")
    read = {
        "prefixes": tuple(checked_json.string("prefixes", one) for one in prefixes),
        "env": _texts(fields, "env"),
        "labels": _texts(fields, "labels"),
    }
    return ImageRecord(**{**fields, **read})


def _instance(fields: dict[str, Any]) -> InstanceRecord:
    """Return the record of an instance; raises `TypeError` or `ValueError` if it is invalid."""
    for name in ("name", "image", "venv", "run_dir"):
        checked_json.string(name, fields.get(name))
    volumes = fields.get("volumes", [])
    if not isinstance(volumes, list):
        raise TypeError("volumes that are no list")
    read = {
        "keeper": Owner.of(fields.get("keeper")),
        "labels": _texts(fields, "labels"),
        "volumes": [checked_json.string("volumes", one) for one in volumes],
    }
    return InstanceRecord(**{**fields, **read})


def _texts(fields: dict[str, Any], field: str) -> dict[str, str]:
    found = fields.get(field, {})
    if not isinstance(found, dict):
        raise TypeError(f"{field} that are no JSON object")
    return {name: checked_json.string(name, value) for name, value in found.items()}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        fields = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None
