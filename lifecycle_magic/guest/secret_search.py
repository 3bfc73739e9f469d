"""A search for values of secrets in the files that a step or a hook of an image wrote.

Standard library only: the container of a step runs the source of this module alone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping

SHORTEST = 8
"""Values of fewer characters are not searched: they occur by chance."""


def find(values: Mapping[str, str], folders: Iterable[str], since: float) -> tuple[str, str] | None:
    """Return the name of a variable and a file that holds its value; None if there is no such file.

    Files below ``folders`` that changed at the time ``since`` (seconds since the epoch) or later
    are read, without those that are mounted there. Links are not followed.
    """
    wanted = [(name, one.encode()) for name, one in values.items() if len(one) >= SHORTEST]
    longest = max((len(value) for _, value in wanted), default=0)
    waiting = list(folders) if wanted else []
    devices = {os.lstat(folder).st_dev for folder in waiting}
    mounts = _mount_points()
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
                if status.st_dev not in devices or entry.path in mounts:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(entry.path)
                # Clocks of file systems are coarser than the one that made ``since``.
                elif stat.S_ISREG(status.st_mode) and status.st_ctime >= since - 1:
                    found = _first_in(entry.path, wanted, longest)
                    if found is not None:
                        return found, entry.path
            except OSError:
                continue  # it is gone
    return None


def _mount_points() -> set[str]:
    """Return where something is mounted: a folder of the same file system has the same device."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            paths = [line.split(" ")[4] for line in file]
    except OSError:
        return set()
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        paths = [path.replace(code, character) for path in paths]
    return set(paths)


def _first_in(path: str, wanted: list[tuple[str, bytes]], longest: int) -> str | None:
    end = b""
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            text = end + block
            for name, value in wanted:
                if value in text:
                    return name
            end = text[-longest:]
    return None


def message(name: str, path: str) -> str:
    """Return the sentence for what `find` found."""
    return (
        f"it wrote the value of the secret {name} to {path}, which would stay in the image. "
        "Fix: have it remove the file, or not write the value"
    )


def masked(text: str, values: Iterable[str]) -> str:
    """Return ``text`` with ``***`` in place of each value.

    >>> masked("token s3cret-value", ["s3cret-value"])
    'token ***'
    """
    for value in values:
        if len(value) >= SHORTEST:
            text = text.replace(value, "***")
    return text
