"""A record of the image layers and named volumes that living sessions still need.

Each session writes its needs into a file of its folder before it relies on them, and ``prune``
reads all these files (`pruning`) before it removes anything. A file lock separates the two, so
``prune`` never removes what was recorded in time.
"""

from __future__ import annotations

import contextlib
import fcntl
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lifecycle_magic.host.owner import Owner
from lifecycle_magic.host.paths import matching, private_folder

__all__ = ["Ledger", "Needed", "needed", "pruning"]

Kind = Literal["images", "volumes"]


@dataclass(frozen=True)
class Needed:
    """Keys and ids of images, and names of volumes, that are in use."""

    images: frozenset[str] = frozenset()
    volumes: frozenset[str] = frozenset()


class Ledger:
    """The record of one session, in its folder below ``root / "run"``. Safe from any thread."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = folder
        self._written: dict[Kind, set[str]] = {"images": set(), "volumes": set()}
        self._lock = threading.Lock()

    def add_images(self, names: Iterable[str]) -> None:
        """Record keys or ids of images that a class of this session runs on, or is about to."""
        self._write("images", names)

    def add_volumes(self, names: Iterable[str]) -> None:
        """Record names of volumes that a class of this session was declared with."""
        self._write("volumes", names)

    def _write(self, kind: Kind, names: Iterable[str]) -> None:
        with self._lock:
            new = sorted(set(names) - self._written[kind])
            if not new:
                return
            with _locked(self._root, fcntl.LOCK_SH), (self._folder / kind).open("a") as file:
                file.write("".join(f"{name}\n" for name in new))
            self._written[kind].update(new)


def needed(root: Path, *, excluded: Path | None = None) -> Needed:
    """Return what the living sessions below ``root`` need, except the one with
    folder ``excluded``.
    """
    images: set[str] = set()
    volumes: set[str] = set()
    for path in matching(root / "run", "*/owner.json"):
        owner = Owner.read(path)
        if path.parent != excluded and owner is not None and owner.alive():
            images.update(_read(path.parent / "images"))
            volumes.update(_read(path.parent / "volumes"))
    return Needed(frozenset(images), frozenset(volumes))


@contextlib.contextmanager
def pruning(root: Path, *, excluded: Path | None = None) -> Iterator[Needed]:
    """Yield `needed` and keep other sessions from recording more until the block ends."""
    with _locked(root, fcntl.LOCK_EX):
        yield needed(root, excluded=excluded)


def _read(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").split()
    except OSError:  # none yet, or that session ends right now
        return []


@contextlib.contextmanager
def _locked(root: Path, how: int) -> Iterator[None]:
    # The operating system releases the lock when the process ends, even if it is killed.
    with (private_folder(root / "locks") / "prune").open("a") as file:
        fcntl.flock(file, how)
        yield
