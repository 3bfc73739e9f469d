"""Readers for files in a container's run folder, which are never trusted.

Code in a container may put anything there: a FIFO without a writer, a link to ``/dev/zero``, an
endless file, JSON that is nested too deep. Each reader returns at once, reads a bounded number of
bytes of a regular file, and raises only `OSError` and `ValueError`.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

__all__ = ["MAX_BYTES", "exists", "read", "read_object", "read_text"]

MAX_BYTES = 4 << 20
"""The most bytes that are read of one file. A report with a hundred tracebacks is far smaller."""


def read(path: Path, most: int = MAX_BYTES) -> bytes:
    """Return the last ``most`` bytes of a regular file. Raises `OSError` for anything else."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        raise OSError(f"{path} is not a regular file")
    with open(fd, "rb") as file:
        file.seek(max(0, found.st_size - most))
        return file.read(most)


def read_text(path: Path, most: int = MAX_BYTES) -> str:
    """Return the end of a regular file as a string; invalid UTF-8 is replaced."""
    return read(path, most).decode("utf-8", "replace")


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a regular file. Raises `ValueError` if there is none."""
    data = read(path, MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path} is larger than {MAX_BYTES} bytes")
    try:
        content = json.loads(data)
    except RecursionError:
        raise ValueError(f"{path} is nested too deep") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no JSON object")
    return content


def exists(path: Path) -> bool:
    """Return whether the path has an entry of any kind."""
    return os.path.lexists(path)
