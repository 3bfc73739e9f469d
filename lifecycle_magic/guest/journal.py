"""The container's log: a file that does not grow without bound, and its last lines in memory."""

from __future__ import annotations

import os
from collections import deque

MAX_BYTES = 4 << 20
TAIL_LINES = 20
TAIL_CHARS = 4000


class Journal:
    """Append text to ``path``; at `MAX_BYTES` it becomes ``path + ".1"`` and a new one begins."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115  # open as long as we are
        self._size = 0
        self._recent: deque[str] = deque()
        self._chars = 0

    def write(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        try:
            if self._size + len(data) > MAX_BYTES:
                self._file.close()
                os.replace(self._path, self._path + ".1")
                self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115
                self._size = 0
            self._file.write(data)
        except OSError:
            pass  # a full disk must not keep exit from running
        self._size += len(data)
        self._recent.append(text[-TAIL_CHARS:])
        self._chars += len(self._recent[-1])
        while self._chars > 2 * TAIL_CHARS and len(self._recent) > 1:
            self._chars -= len(self._recent.popleft())

    def tail(self) -> str:
        """The last lines, at most 20 and about 4,000 characters."""
        return "\n".join("".join(self._recent)[-TAIL_CHARS:].splitlines()[-TAIL_LINES:])

    def close(self) -> None:
        self._file.close()
