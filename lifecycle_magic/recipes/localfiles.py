"""Files of this host that go into an image: which of a folder, and what of each makes the image.

They are read when an image is needed, not when its recipe is written: an edited file is another
image.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Ignore", "Kind", "LocalFile", "kind_of", "name_of", "names_below"]

Ignore = Sequence[str] | Callable[[Path], bool]
"""Patterns as in a ``.dockerignore`` file, or a function that is given each path below a folder
and returns whether it is left out."""

Kind = Literal["file", "folder", "link"]


@dataclass(frozen=True)
class LocalFile:
    """Something of this host that goes into an image.

    ``path`` is where it lies here; ``name`` is its relative POSIX path below the step's target,
    empty for the target itself; ``mode`` are its permissions.
    """

    path: Path
    name: str
    kind: Kind
    mode: int

    def digest(self) -> str:
        """What of it ends up in the image: name, kind, permissions and content, but no time."""
        sha = hashlib.sha256()
        if self.kind == "link":
            sha.update(os.fsencode(os.readlink(self.path)))
        elif self.kind == "file":
            with self.path.open("rb") as file:
                while block := file.read(1 << 20):
                    sha.update(block)
        return self.digest_of(sha.hexdigest())

    def digest_of(self, content: str) -> str:
        """The same, where the SHA-256 of its content (hex) is known."""
        return f"{self.kind} {self.mode:o} {content} {self.name}"


def name_of(digest: str) -> str:
    """The name of the file that a `LocalFile.digest` is of."""
    return digest.split(" ", 3)[3]


def kind_of(mode: int) -> Kind | None:
    """What an ``lstat`` says it is; None for sockets, pipes and devices: nothing to copy there."""
    if stat.S_ISLNK(mode):
        return "link"
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else None


def names_below(folder: Path, ignore: Ignore) -> list[str]:
    """The relative POSIX paths of what lies below a folder and is not ignored, sorted."""
    if ignore and not callable(ignore):
        # Docker's own rules for these patterns, as its Python client has them.
        from docker.utils.build import PatternMatcher

        return sorted(PatternMatcher(list(ignore)).walk(str(folder)))
    names = []
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            below = (Path(place) / name).relative_to(folder)
            if callable(ignore) and ignore(below):
                if name in folders:
                    folders.remove(name)
                continue
            names.append(below.as_posix())
    return sorted(names)
