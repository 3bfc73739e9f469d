"""What the process engine keeps on disk, below the state root.

    venvs/<id>/                 an environment, shared read-only by every image made from it
    images/<key>/root/          the snapshot: what the recipe and the build hooks wrote
    images/<key>/image.json     its labels, environment, working folder, environment's id
    instances/<name>/root/      one instance's own copy of a snapshot
    instances/<name>/instance.json   who keeps it, what it runs
    volumes/<name>/             named volumes

Images and instances are made under a temporary name beside their place and renamed when complete,
so whoever finds one finds a whole one. The temporary name says who is at it, and by that
`clear_leftovers` knows whose maker is gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import re
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifecycle_magic import full
from lifecycle_magic.engines import processes
from lifecycle_magic.engines.keeper import remove_tree
from lifecycle_magic.exception import EngineError
from lifecycle_magic.owner import Owner
from lifecycle_magic.paths import private_folder

_MAKING = ".making"
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_count = itertools.count()


@dataclass(frozen=True)
class ImageRecord:
    """``image.json``. ``venv`` is the id of its environment, which other images may share."""

    venv: str
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class InstanceRecord:
    """``instance.json``: everything another process has to know about an instance."""

    name: str
    image: str
    venv: str
    run_dir: str
    keeper: Owner
    labels: Mapping[str, str] = field(default_factory=dict)
    volumes: Sequence[str] = ()  # names


class Store:
    """The folders below ``root``; they are made when they are first needed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, kind: str) -> Path:
        """``venvs``, ``images``, ``instances`` or ``volumes``; made if it is missing."""
        return private_folder(self.root / kind)

    def place(self, kind: str, name: str) -> Path:
        """Where ``name`` lies; raises `EngineError` for a name that is no plain file name."""
        if not _SAFE.match(name):
            raise EngineError(
                f"{name!r} can't be a name below {self.root / kind}: use [A-Za-z0-9_.-]"
            )
        return self.root / kind / name

    @contextlib.contextmanager
    def making(self, kind: str, name: str) -> Iterator[Path]:
        """A new empty folder for the block to fill and `publish`; removed if it does not."""
        self.place(kind, name)
        me = Owner.me()
        mark = f"{_MAKING}-{me.pid}-{me.started}-{me.boot[:8]}-{next(_count)}"
        temporary = self.folder(kind) / mark
        temporary.mkdir(mode=0o700)
        try:
            yield temporary
        finally:
            remove_tree(str(temporary))

    @contextlib.contextmanager
    def new_venv(self) -> Iterator[Path]:
        """A place for a new environment; removed unless an image refers to it at the end.

        It is made where it will stay, since scripts hold the path of their interpreter. While it is
        made, a folder of images is being made too, which keeps `clear_leftovers` from it.
        """
        venv = self.folder("venvs") / uuid.uuid4().hex
        try:
            yield venv
        finally:
            if venv.name not in self._venvs_in_use():
                remove_tree(str(venv))

    def publish(self, temporary: Path, place: Path) -> bool:
        """Rename ``temporary`` to ``place``; False if somebody else's is there already."""
        try:
            temporary.rename(place)
        except OSError:
            if place.exists():
                return False
            raise
        return True

    def replace(self, temporary: Path, place: Path) -> None:
        """Rename ``temporary`` to ``place``, in the stead of what is there."""
        while not self.publish(temporary, place):
            self.discard(place)

    def discard(self, place: Path) -> None:
        """Remove a published folder; nobody sees half of it."""
        with self.making(place.parent.name, place.name) as temporary:
            try:
                place.rename(temporary / "gone")
            except FileNotFoundError:
                return

    def clear_leftovers(self) -> list[str]:
        """Remove what crashed makers left, and environments without an image; what was removed."""
        removed = []
        boot = Owner.me().boot[:8]
        for kind in ("instances", "images"):
            for path in self.folder(kind).glob(f"{_MAKING}-*"):
                pid, started, of, _ = path.name.removeprefix(f"{_MAKING}-").split("-")
                maker = processes.read(int(pid))
                if of != boot or maker is None or str(maker.started) != started:
                    remove_tree(str(path))
                    removed.append(f"leftover {kind}/{path.name}")
        if not any(self.folder("images").glob(f"{_MAKING}-*")):
            used = self._venvs_in_use()
            for venv in self.folder("venvs").iterdir():
                if venv.name not in used:
                    remove_tree(str(venv))
                    removed.append(f"environment {venv.name}")
        return removed

    def _venvs_in_use(self) -> set[str]:
        records = [_read(self.folder("images") / key / "image.json") for key in self.images()]
        return {str(told["venv"]) for told in records if told} | {
            one.venv for one in self.instances()
        }

    # --- images ------------------------------------------------------------------------------

    def image(self, key: str) -> ImageRecord | None:
        """The record of a complete image whose environment still works; None otherwise."""
        text = _read(self.place("images", key) / "image.json")
        if text is None:
            return None
        record = ImageRecord(**text)
        # exists() follows the link to the host's Python, which may have been uninstalled.
        python = self.place("venvs", record.venv) / "bin" / "python"
        return record if python.exists() else None

    def images(self) -> list[str]:
        """The keys of all images."""
        return sorted(path.name for path in self.folder("images").iterdir() if path.name[0] != ".")

    # --- instances ---------------------------------------------------------------------------

    def instance(self, name: str) -> InstanceRecord | None:
        """The record of one instance, running or not; None if there is none."""
        told = _read(self.place("instances", name) / "instance.json")
        if told is None:
            return None
        return InstanceRecord(**{**told, "keeper": Owner(**told["keeper"])})

    def instances(self) -> list[InstanceRecord]:
        """Every instance that is on record."""
        names = sorted(
            path.name for path in self.folder("instances").iterdir() if path.name[0] != "."
        )
        return [record for name in names if (record := self.instance(name)) is not None]

    def volumes(self) -> list[str]:
        """The names of all named volumes."""
        return sorted(path.name for path in self.folder("volumes").iterdir())


def write(path: Path, record: ImageRecord | InstanceRecord) -> None:
    """Write a record into a folder that is being made."""
    path.write_text(json.dumps(dataclasses.asdict(record), indent=1) + "\n")


def copy_tree(source: Path, target: Path) -> None:
    """Make ``target`` a copy of the folder ``source`` with modes, links and times.

    On file systems that can (btrfs, XFS) no data is copied. Raises `EngineError`.
    """
    target.mkdir(mode=0o700)
    if not any(source.iterdir()):
        return
    command = ["cp", "-a", "--reflink=auto", "--", f"{source}/.", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = done.stderr.strip()[-500:]
        raise EngineError(f"copying the snapshot {source} failed: {said}{full.mend(said)}")


def tree_size(folder: Path) -> int:
    """Bytes on disk of a folder's files; what goes away meanwhile is not counted."""
    size = 0
    for path, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(path, name)).st_blocks * 512
    return size


def _read(path: Path) -> dict[str, Any] | None:
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None
