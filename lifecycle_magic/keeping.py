"""What living sessions will need again: layers of images and named volumes, so that prune leaves
them alone.

Each session writes it down in its folder before it relies on it, and ``prune`` reads all of it
(`pruning`) before it removes anything; the two take turns: what was written down in time is never
removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lifecycle_magic.owner import Owner
from lifecycle_magic.paths import private_folder

__all__ = ["Ledger", "Needed", "needed", "pruning"]

Kind = Literal["images", "volumes"]


@dataclass(frozen=True)
class Needed:
    """Keys and ids of images, and names of volumes."""

    images: frozenset[str] = frozenset()
    volumes: frozenset[str] = frozenset()


class Ledger:
    """One session's list, in its folder below ``root / "run"``. Any thread may write."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = folder
        self._written: dict[Kind, set[str]] = {"images": set(), "volumes": set()}
        self._lock = threading.Lock()

    def images(self, names: Iterable[str]) -> None:
        """Keys or ids of images that a class of this session runs on, or is about to."""
        self._write("images", names)

    def volumes(self, names: Iterable[str]) -> None:
        """Names of volumes that a class of this session was declared with."""
        self._write("volumes", names)

    def _write(self, kind: Kind, names: Iterable[str]) -> None:
        with self._lock:
            new = sorted(set(names) - self._written[kind])
            if not new:
                return
            with _turn(self._root, fcntl.LOCK_SH), (self._folder / kind).open("a") as file:
                file.write("".join(f"{name}\n" for name in new))
            self._written[kind].update(new)


def needed(root: Path, *, but: Path | None = None) -> Needed:
    """What the living sessions below ``root`` need; not the one with the folder ``but``."""
    images: set[str] = set()
    volumes: set[str] = set()
    for path in (root / "run").glob("*/owner.json"):
        owner = Owner.read(path)
        if path.parent != but and owner is not None and owner.alive():
            images.update(_read(path.parent / "images"))
            volumes.update(_read(path.parent / "volumes"))
    return Needed(frozenset(images), frozenset(volumes))


@contextlib.contextmanager
def pruning(root: Path, *, but: Path | None = None) -> Iterator[Needed]:
    """`needed`, while no session can begin to need anything else: it waits for the block's end."""
    with _turn(root, fcntl.LOCK_EX):
        yield needed(root, but=but)


def _read(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:  # none yet, or that session ends right now
        return []


@contextlib.contextmanager
def _turn(root: Path, how: int) -> Iterator[None]:
    # The operating system gives the lock back when the process ends, however that happens.
    with (private_folder(root / "locks") / "prune").open("a") as file:
        fcntl.flock(file, how)
        yield
