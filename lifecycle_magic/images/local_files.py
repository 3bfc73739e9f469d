"""Files of this host that go into an image: which files of a folder, and what of each file counts.

They are read when an image is needed, not when its recipe is written: an edited file makes another
image.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Ignore", "Kind", "LocalFile", "digests", "found_below", "name_of", "names_below"]

Ignore = Sequence[str] | Callable[[Path], bool]
"""Patterns as in a ``.dockerignore`` file, or a function that gets each file below a folder and
returns whether it is excluded. Modal asks it about files alone, and so does this."""

Kind = Literal["file", "folder", "link"]


@dataclass(frozen=True)
class LocalFile:
    """A file, folder or link of this host that goes into an image.

    ``path`` is its path here; ``name`` is its relative POSIX path below the step's target, empty
    for the target itself; ``mode`` are its permissions.
    """

    path: Path
    name: str
    kind: Kind
    mode: int

    def digest(self) -> str:
        """Return a digest of its name, kind, permissions and content; times do not count."""
        sha = hashlib.sha256()
        if self.kind == "link":
            sha.update(os.fsencode(os.readlink(self.path)))
        elif self.kind == "file":
            with self.path.open("rb") as file:
                while block := file.read(1 << 20):
                    sha.update(block)
        return self.digest_of(sha.hexdigest())

    def digest_of(self, content: str) -> str:
        """Return the same digest from the SHA-256 of the content (hex)."""
        return f"{self.kind} {self.mode:o} {content} {self.name}"


def name_of(digest: str) -> str:
    """Return the file's name in the result of `LocalFile.digest`."""
    return digest.split(" ", 3)[3]


def digests(files: Iterable[LocalFile]) -> list[str]:
    """Return the digest of each file that still exists.

    The folder of a notebook has temporary files, such as a database's journal, which may have
    vanished since the folder was listed.
    """
    found = []
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            found.append(file.digest())
    return found


def found_below(folder: Path, name: str) -> LocalFile | None:
    """Return the file at the relative path ``name``.

    None if it no longer exists, and for sockets, pipes and devices, which can't be copied.
    """
    path = folder / name
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    kind = _kind_of(mode)
    return None if kind is None else LocalFile(path, name, kind, stat.S_IMODE(mode))


def _kind_of(mode: int) -> Kind | None:
    if stat.S_ISLNK(mode):
        return "link"
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else None


def names_below(folder: Path, ignore: Ignore) -> list[str]:
    """Return the sorted relative POSIX paths of what lies below a folder and is not ignored."""
    if ignore and not callable(ignore):
        # Docker's own rules for these patterns, as implemented by its Python client.
        from docker.utils.build import PatternMatcher

        return sorted(PatternMatcher(list(ignore)).walk(str(folder)))
    found: set[Path] = set()
    for place, folders, files in os.walk(folder):
        below = Path(place).relative_to(folder)
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        names = [below / name for name in (*files, *links)]
        if not folders and not files and below != Path():
            names.append(below)  # an empty folder
        found.update(name for name in names if not (callable(ignore) and ignore(name)))
    for name in [*found]:
        found.update(name.parents)
    return sorted(name.as_posix() for name in found if name != Path())
