"""The named parts of a fingerprint, while they are read.

A part refers to another part by name only, and parts wait in a queue until they are read. So
references can be cyclic, at any distance and of any depth.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from lifecycle_magic.wire.value_digest import UnreadableValue, ValueDigester, digest

__all__ = ["NUMBERED", "Parts"]

NUMBERED = " #"
"""What is between a label and the number of a part whose label is taken."""


class Parts:
    """The parts of one fingerprint.

    ``special`` is called first for each object: see `ValueDigester`.

    Two objects with the same label are two parts. With ``unites`` they are one part, with the
    digest that each of them has if their contents are equal: the classes, say, that two runs of one
    cell have made.

    ``digests`` are those of the parts that have been read, by name. ``unreadable`` names, in order,
    what has no readable content.
    """

    def __init__(self, special: Callable[[object], bytes | None], unites: bool = False) -> None:
        self._unites = unites
        self.digests: dict[str, bytes] = {}
        self._unreadable: dict[str, None] = {}
        self._values = ValueDigester(special)
        self._names: dict[object, str] = {}
        self._taken: set[str] = set()
        self._contents: dict[str, set[bytes]] = {}
        self._waiting: deque[tuple[str, Callable[[], bytes]]] = deque()
        self._label = "value"
        self._alive: list[object] = []

    @property
    def unreadable(self) -> tuple[str, ...]:
        return tuple(self._unreadable)

    @property
    def reading(self) -> str:
        """The name of what is being read, without its kind: ``LIMIT`` of ``LIMIT (constant)``."""
        return self._label.rpartition(" (")[0] or self._label

    def refer(
        self, key: object, label: str, produce: Callable[[], bytes], alive: object = None
    ) -> bytes:
        """Return bytes that represent a part.

        At the first reference it is queued, to be read by ``produce``.

        ``label`` is its human-readable name, with a number added if another part has that name. If
        ``key`` contains an id, ``alive`` is the object of that id: the id of a freed object could
        be reused.
        """
        name = self._names.get(key)
        if name is None:
            name, count = label, 1
            while name in self._taken and not self._unites:
                count += 1
                name = f"{label}{NUMBERED}{count}"
            self._names[key] = name
            self._taken.add(name)
            self._alive.append(alive)
            self._waiting.append((name, produce))
        return digest(b"part", name.encode())

    def encode(self, value: object) -> bytes:
        """Return bytes that represent a value. A value without readable content is recorded."""
        try:
            return self._values.encode(value)
        except UnreadableValue as error:
            self.note_unreadable(self.reading)
            return digest(b"unreadable", str(error).encode())

    def encode_labelled(self, label: str, value: object) -> bytes:
        """Do what `encode` does, with ``label`` as the name of what is being read."""
        return self._read(label, lambda: self.encode(value))

    def note_unreadable(self, what: str) -> None:
        """Record something that no digest can cover."""
        self._unreadable[what] = None

    def read_waiting(self) -> bool:
        """Read the waiting parts, and those that they refer to. Return whether there were any."""
        found = bool(self._waiting)
        while self._waiting:
            name, produce = self._waiting.popleft()
            contents = self._contents.setdefault(name, set())
            contents.add(self._read(name, produce))
            self.digests[name] = digest(*sorted(contents))
        return found

    def _read(self, label: str, produce: Callable[[], bytes]) -> bytes:
        outer, self._label = self._label, label
        try:
            return produce()
        finally:
            self._label = outer
