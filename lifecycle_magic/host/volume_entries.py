"""Entries of a volume as users see them, and errors of its files with the fix."""

from __future__ import annotations

import contextlib
import enum
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from lifecycle_magic.exception import InvalidError, NotFoundError

__all__ = ["FileEntry", "FileEntryType", "pattern_of", "translated", "type_of"]


class FileEntryType(enum.IntEnum):
    """The type of an entry of a volume."""

    UNSPECIFIED = 0
    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3


_TYPES = {
    "file": FileEntryType.FILE,
    "folder": FileEntryType.DIRECTORY,
    "link": FileEntryType.SYMLINK,
}


class FileEntry(NamedTuple):
    """A file or folder in a volume: its path there, ``mtime`` in seconds, ``size`` in bytes."""

    path: str
    type: FileEntryType
    mtime: int
    size: int


def type_of(kind: str) -> FileEntryType:
    """Return the type of an entry that `VolumeFolder` calls ``kind``."""
    return _TYPES.get(kind, FileEntryType.UNSPECIFIED)


def pattern_of(glob: str) -> re.Pattern[str]:
    """Return a pattern for paths: ``*`` is any part of a name, ``**`` any number of folders."""
    words = re.split(r"(\*\*/?|\*)", glob)
    meanings = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    return re.compile("".join(meanings.get(word, re.escape(word)) for word in words), re.DOTALL)


class _FileNotFound(NotFoundError, FileNotFoundError):
    """A path that a volume does not have: handlers for files catch it as well."""

    def __reduce__(self) -> tuple[Any, ...]:
        return NotFoundError, self.args


_FileNotFound.__name__ = _FileNotFound.__qualname__ = "NotFoundError"


@contextlib.contextmanager
def translated(volume: str, method: str) -> Iterator[None]:
    """Raise what an operation on files raises with the name of the volume and the fix."""
    where = f"Volume.{method}: in the volume {volume}"
    try:
        yield
    except FileNotFoundError as error:
        raise _FileNotFound(f"{where} there is no {str(error)!r}") from None
    except FileExistsError as error:
        raise FileExistsError(
            f"{where} {str(error)!r} exists. Fix: remove it, or write batch_upload(force=True)"
        ) from None
    except IsADirectoryError as error:
        fix = ". Fix: give recursive=True" if method in ("remove_file", "copy_files") else ""
        raise InvalidError(f"{where} {str(error)!r} is a folder{fix}") from None
    except NotADirectoryError as error:
        raise InvalidError(f"{where} {str(error)!r} is no folder") from None
