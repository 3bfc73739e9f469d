"""Files that the supervisor writes into the run folder, where the user's code can write too.

An object that user code put in the way (a FIFO, a link, a folder) is never opened: a new file gets
an unpredictable name first, and then replaces it.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def create(path: str) -> int:
    """Open a new file at ``path`` for appending, in place of any existing one. Raises `OSError`."""
    return _replace(path, b"")


def write_json(path: str, content: dict[str, Any]) -> None:
    """Write JSON to ``path``, whole or not at all. Raises `OSError`."""
    os.close(_replace(path, json.dumps(content).encode()))


def _replace(path: str, content: bytes) -> int:
    part = f"{path}.{os.urandom(8).hex()}"
    fd = os.open(part, _FLAGS | os.O_NONBLOCK, 0o600)
    try:
        os.fchmod(fd, 0o644)  # the kernel's user is not a container's root
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        try:
            os.replace(part, path)
        except IsADirectoryError:
            os.rename(path, f"{part}.was")
            os.replace(part, path)
    except BaseException:
        os.close(fd)
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
    return fd
