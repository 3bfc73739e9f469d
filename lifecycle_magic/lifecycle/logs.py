"""The last output of each class and container, including containers that have exited.

A class is identified by its key in the session, because two classes may share a name.

A reader that follows a log passes the position it has and gets what came after it, so that nothing
is read twice.
"""

from __future__ import annotations

import threading
from collections import deque

from lifecycle_magic.lifecycle.states import Event, LogLine

__all__ = ["MAX_CHARACTERS", "Logs"]

MAX_CHARACTERS = 1 << 18
"""Characters kept of each class."""


class _Log:
    """One class's output. ``count`` is the number of all pieces received, kept or not."""

    __slots__ = ("chars", "count", "pieces")

    def __init__(self) -> None:
        self.pieces: deque[LogLine] = deque()
        self.chars = 0
        self.count = 0


class Logs:
    """The last `MAX_CHARACTERS` characters of each class. Safe from any thread."""

    def __init__(self) -> None:
        self._logs: dict[str, _Log] = {}
        self._lock = threading.Lock()

    def take(self, event: Event) -> None:
        """Keep the event if it is output. This is a subscriber of the session's bus."""
        if not isinstance(event, LogLine):
            return
        with self._lock:
            log = self._logs.setdefault(event.service, _Log())
            log.pieces.append(event)
            log.count += 1
            log.chars += len(event.text)
            while log.chars > MAX_CHARACTERS and len(log.pieces) > 1:
                log.chars -= len(log.pieces.popleft().text)

    def text(self, key: str, container: str | None = None) -> str:
        """Return all kept output of a class, or of one of its containers."""
        return self.since(0, key, container)[0]

    def since(self, position: int, key: str, container: str | None = None) -> tuple[str, int]:
        """Return the kept output after ``position``, and the new position.

        Position 0 is the beginning.
        """
        with self._lock:
            log = self._logs.get(key)
            if log is None:
                return "", 0
            new = min(log.count - position, len(log.pieces))
            pieces = [log.pieces[-n] for n in range(new, 0, -1)]
            return "".join(p.text for p in pieces if container in (None, p.container)), log.count
