"""What containers printed: the last of it, by class and by container, also of those that are gone.

A class is known by its key in the session: two may have one name.

Readers who follow a log ask for what came after the position they have: nothing is read twice.
"""

from __future__ import annotations

import threading
from collections import deque

from lifecycle_magic.state import Event, LogLine

__all__ = ["KEPT", "Logs"]

KEPT = 1 << 18
"""Characters kept of each class."""


class _Log:
    """One class's output. ``count`` is of all pieces that ever came, kept or not."""

    __slots__ = ("chars", "count", "pieces")

    def __init__(self) -> None:
        self.pieces: deque[LogLine] = deque()
        self.chars = 0
        self.count = 0


class Logs:
    """The last `KEPT` characters of each class. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._logs: dict[str, _Log] = {}
        self._lock = threading.Lock()

    def take(self, event: Event) -> None:
        """A subscriber of the session's bus: keep it if it is output."""
        if not isinstance(event, LogLine):
            return
        with self._lock:
            log = self._logs.setdefault(event.service, _Log())
            log.pieces.append(event)
            log.count += 1
            log.chars += len(event.text)
            while log.chars > KEPT and len(log.pieces) > 1:
                log.chars -= len(log.pieces.popleft().text)

    def text(self, key: str, container: str | None = None) -> str:
        """All that is kept of a class, or of one of its containers."""
        return self.since(0, key, container)[0]

    def since(self, position: int, key: str, container: str | None = None) -> tuple[str, int]:
        """What came after ``position`` and is still kept, and the position after it.

        0 is the beginning.
        """
        with self._lock:
            log = self._logs.get(key)
            if log is None:
                return "", 0
            new = min(log.count - position, len(log.pieces))
            pieces = [log.pieces[-n] for n in range(new, 0, -1)]
            return "".join(p.text for p in pieces if container in (None, p.container)), log.count
