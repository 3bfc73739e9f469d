"""All that the last build of a class's image printed, as a file below the state root.

A new build begins a new file. Of a very long one the last 4 to 8 MiB are kept.
"""

from __future__ import annotations

import contextlib
import time
import zlib
from pathlib import Path

from lifecycle_magic.guest.journal import Journal
from lifecycle_magic.paths import private_folder, state_root
from lifecycle_magic.state import BuildStep

__all__ = ["BuildLog", "find", "read"]

_ENGINES = ("docker", "process")


class BuildLog:
    """The log of one build; ``path`` is set once a step was told of."""

    def __init__(self, engine: str, name: str) -> None:
        self.path: Path | None = None
        self._of = engine, name
        self._begun = False
        self._journal: Journal | None = None
        self._fresh = True  # at the beginning of a line

    def take(self, event: BuildStep) -> None:
        """Write one event down. A full disk must not end the build: then there is no log."""
        if not self._begun:
            self._begun = True
            with contextlib.suppress(OSError):
                path = _path(*self._of)
                # A kernel that still writes the former one keeps its file; the name is ours.
                path.unlink(missing_ok=True)
                _older(path).unlink(missing_ok=True)
                self._journal = Journal(str(path))
                self.path = path
        if event.status == "output":
            self._write(event.text)
            return
        if event.status == "running":
            told = f"step {event.step} of {event.of}: {event.text}" if event.step else event.text
            told = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(event.at))} {told}"
        else:
            took = "" if event.seconds is None else f" after {event.seconds:.1f} s"
            told = f"{event.status}{took}: {event.text}"
        self._write(f"{'' if self._fresh else chr(10)}--- {told}\n")

    def _write(self, text: str) -> None:
        if text and self._journal is not None:
            self._journal.write(text)
            self._fresh = text.endswith("\n")

    def close(self) -> None:
        """Nothing more comes."""
        if self._journal is not None:
            self._journal.close()


def find(name: str) -> Path | None:
    """The log of the last build of the class ``name``, on whichever engine; None if there is none.

    The class may be of another session.
    """
    there = [path for engine in _ENGINES if (path := _path(engine, name)).exists()]
    return max(there, key=lambda path: path.stat().st_mtime, default=None)


def read(path: Path) -> str:
    """All that is kept of a log."""
    older = _older(path)
    return "".join(one.read_text(errors="replace") for one in (older, path) if one.exists())


def _older(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def _path(engine: str, name: str) -> Path:
    # A class may have a longer name than a file.
    short = name if len(name) <= 100 else f"{name[:80]}-{zlib.crc32(name.encode()):08x}"
    return private_folder(state_root() / "builds") / f"{engine}-{short}.log"
