"""The named parts of a fingerprint, while they are read.

A part refers to another by its name alone, and parts wait in a queue until they are read. So what
refers to itself, however many parts away, needs no care, and how deep references go is no matter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from lifecycle_magic.digests.values import Unreadable, Values, digest

__all__ = ["Parts"]


class Parts:
    """Refers to parts and reads them; ``special`` is asked first about each object, see `Values`.

    ``digests`` are of the parts that have been read, by name. ``unreadable`` names, in order, what
    has no content that can be read.
    """

    def __init__(self, special: Callable[[object], bytes | None]) -> None:
        self.digests: dict[str, bytes] = {}
        self._unreadable: dict[str, None] = {}
        self._values = Values(special)
        self._names: dict[object, str] = {}
        self._taken: set[str] = set()
        self._waiting: deque[tuple[str, Callable[[], bytes]]] = deque()
        self._label = "value"
        self._alive: list[object] = []

    @property
    def unreadable(self) -> tuple[str, ...]:
        return tuple(self._unreadable)

    @property
    def reading(self) -> str:
        """What is being read, without its kind: ``LIMIT`` of ``LIMIT (constant)``."""
        return self._label.rpartition(" (")[0] or self._label

    def refer(
        self, key: object, label: str, produce: Callable[[], bytes], alive: object = None
    ) -> bytes:
        """What stands for a part; it is read later, by ``produce``, if this is the first time.

        ``label`` is its name for people, with a number where another part has it. Where ``key``
        has an id in it, ``alive`` is what that is the id of: freed, it could be another's.
        """
        name = self._names.get(key)
        if name is None:
            name, count = label, 1
            while name in self._taken:
                count += 1
                name = f"{label} #{count}"
            self._names[key] = name
            self._taken.add(name)
            self._alive.append(alive)
            self._waiting.append((name, produce))
        return digest(b"part", name.encode())

    def encode(self, value: object) -> bytes:
        """What stands for a value; one without content that can be read is noted."""
        try:
            return self._values.encode(value)
        except Unreadable as error:
            self.note_unreadable(self.reading)
            return digest(b"unreadable", str(error).encode())

    def labelled(self, label: str, value: object) -> bytes:
        """`encode`, with ``label`` for what is being read."""
        return self._read(label, lambda: self.encode(value))

    def note_unreadable(self, what: str) -> None:
        """Name something that no digest can tell of."""
        self._unreadable[what] = None

    def read_waiting(self) -> bool:
        """Read the parts that wait, and those that they refer to; whether there were any."""
        found = bool(self._waiting)
        while self._waiting:
            name, produce = self._waiting.popleft()
            self.digests[name] = digest(self._read(name, produce))
        return found

    def _read(self, label: str, produce: Callable[[], bytes]) -> bytes:
        outer, self._label = self._label, label
        try:
            return produce()
        finally:
            self._label = outer
