"""A search for values of secrets in the files that a step of an image wrote.

Standard library only: a container runs the source of this module.
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
    are read, without those on other file systems. Links are not followed.
    """
    wanted = [(name, one.encode()) for name, one in values.items() if len(one) >= SHORTEST]
    longest = max((len(value) for _, value in wanted), default=0)
    waiting = list(folders) if wanted else []
    devices = {os.lstat(folder).st_dev for folder in waiting}
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
                if status.st_dev not in devices:
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
        f"the step wrote the value of the secret {name} to {path}, which would stay in the image. "
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
