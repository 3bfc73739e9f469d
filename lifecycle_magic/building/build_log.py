"""A file below the state root with the output of the last image build of a class.

A new build begins a new file. Of a very long one the last 4 to 8 MiB are kept.
"""

from __future__ import annotations

import contextlib
import glob
import os
import time
import zlib
from pathlib import Path

from lifecycle_magic.guest.container_log import ContainerLog
from lifecycle_magic.host.paths import file_name, matching, private_folder, state_root
from lifecycle_magic.lifecycle.states import BuildStep

__all__ = ["BuildLog", "find", "read"]

MOST_LOGS = 64
"""Logs that are kept, one for each class and process that built it."""


class BuildLog:
    """The log of one build; ``path`` is set when the first step is reported."""

    def __init__(self, engine: str, name: str) -> None:
        self.path: Path | None = None
        self._of = engine, name
        self._begun = False
        self._journal: ContainerLog | None = None
        self._fresh = True  # at the beginning of a line

    def take(self, event: BuildStep) -> None:
        """Write one event to the log. If the disk is full, the build goes on without a log."""
        if not self._begun:
            self._begun = True
            with contextlib.suppress(OSError):
                path = _path(*self._of)
                # Another kernel that still writes the previous file keeps it open under no name.
                path.unlink(missing_ok=True)
                _older(path).unlink(missing_ok=True)
                self._journal = ContainerLog(str(path))
                self.path = path
                _remove_oldest(path.parent)
        if event.status == "output":
            self._write(event.text)
            return
        if event.status == "running":
            line = f"step {event.step} of {event.of}: {event.text}" if event.step else event.text
            line = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(event.at))} {line}"
        else:
            took = "" if event.seconds is None else f" after {event.seconds:.1f} s"
            line = f"{event.status}{took}: {event.text}"
        self._write(f"{'' if self._fresh else chr(10)}--- {line}\n")

    def _write(self, text: str) -> None:
        if text and self._journal is not None:
            self._journal.write(text)
            self._fresh = text.endswith("\n")

    def close(self) -> None:
        """Close the file: no further event follows."""
        if self._journal is not None:
            self._journal.close()


def find(name: str) -> Path | None:
    """Return the log of the last build of the class ``name`` on any engine, None if there is none.

    The class may belong to another session.
    """
    folder = private_folder(state_root() / "builds")
    short = _short(name)
    # An engine's part of the name has no hyphen.
    there = [
        path
        for path in matching(folder, f"*-{glob.escape(short)}.*.log")
        if path.name.partition("-")[2].startswith(f"{short}.")
    ]
    own = [path for path in there if path.name.endswith(f".{os.getpid()}.log")]
    return max(own or there, key=_written, default=None)


def read(path: Path) -> str:
    """Return all that is kept of a log."""
    older = _older(path)
    return "".join(one.read_text(errors="replace") for one in (older, path) if one.exists())


def _older(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def _path(engine: str, name: str) -> Path:
    file = f"{file_name(engine)}-{_short(name)}.{os.getpid()}.log"
    return private_folder(state_root() / "builds") / file


def _short(name: str) -> str:
    # A class may have a longer name than a file.
    return name if len(name) <= 100 else f"{name[:80]}-{zlib.crc32(name.encode()):08x}"


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process removed it meanwhile
        return 0.0


def _remove_oldest(folder: Path) -> None:
    for path in sorted(matching(folder, "*.log"), key=_written)[:-MOST_LOGS]:
        path.unlink(missing_ok=True)
        _older(path).unlink(missing_ok=True)
