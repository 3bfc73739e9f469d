"""The container's log: a file of bounded size, and its last lines in memory."""

from __future__ import annotations

import contextlib
import os
from collections import deque

from lifecycle_magic.guest import files

MAX_BYTES = 4 << 20
TAIL_LINES = 20
TAIL_CHARS = 4000


class ContainerLog:
    """A log file at ``path``. At `MAX_BYTES` it becomes ``path + ".1"`` and a new file begins."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = -1
        self._size = 0
        self._recent: deque[str] = deque()
        self._chars = 0
        with contextlib.suppress(OSError):  # a full disk must not keep exit from running
            self._file = files.create(path)

    def write(self, text: str) -> None:
        """Append ``text``. A full disk raises nothing."""
        data = text.encode("utf-8", "backslashreplace")
        with contextlib.suppress(OSError):
            if self._size + len(data) > MAX_BYTES:
                self._rotate()
            if self._file >= 0:
                os.write(self._file, data)
        self._size += len(data)
        self._recent.append(text[-TAIL_CHARS:])
        self._chars += len(self._recent[-1])
        while self._chars > 2 * TAIL_CHARS and len(self._recent) > 1:
            self._chars -= len(self._recent.popleft())

    def _rotate(self) -> None:
        """Begin a new file.

        If that is impossible, truncate this one, so that the log stays bounded.
        """
        self._size = 0
        try:
            os.replace(self._path, self._path + ".1")
            new = files.create(self._path)
        except OSError:
            os.ftruncate(self._file, 0)
            return
        self.close()
        self._file = new

    def tail(self) -> str:
        """Return the last lines, at most 20 and about 4,000 characters."""
        return "\n".join("".join(self._recent)[-TAIL_CHARS:].splitlines()[-TAIL_LINES:])

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
