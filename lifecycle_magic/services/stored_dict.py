"""The content of one `Dict` in the session, as pickles that are never read here."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from lifecycle_magic.callers.object_calls import EMPTY, OK, TOO_LARGE, Answer, Packed

__all__ = ["MAX_BYTES", "StoredDict", "size_of"]

MAX_BYTES = 1 << 30
"""The most bytes of one queue or dictionary."""


def size_of(packed: Packed) -> int:
    """Return the bytes of a value as it travels."""
    return len(packed[0]) + sum(map(len, packed[1]))


class StoredDict:
    """Values by the identity of their keys, which the caller determines."""

    def __init__(self) -> None:
        self._entries: dict[bytes, tuple[Packed, Packed]] = {}  # identity: key, value
        self._bytes = 0
        self.methods: dict[str, Callable[..., None]] = {
            "get": self._get,
            "pop": self._pop,
            "put": self._put,
            "contains": self._contains,
            "len": self._len,
            "entries": self._all,
            "clear": self._clear,
        }

    def _get(self, future: Future[Answer], identity: bytes) -> None:
        found = self._entries.get(identity)
        future.set_result((EMPTY, None) if found is None else (OK, found[1]))

    def _pop(self, future: Future[Answer], identity: bytes) -> None:
        found = self._entries.pop(identity, None)
        if found is not None:
            self._bytes -= size_of(found[0]) + size_of(found[1])
        future.set_result((EMPTY, None) if found is None else (OK, found[1]))

    def _put(
        self,
        future: Future[Answer],
        entries: list[tuple[bytes, Packed, Packed]],
        skip_if_exists: bool,
    ) -> None:
        """Set values, all or none; the answer is whether a key was new or could be replaced."""
        chosen = [one for one in entries if not (skip_if_exists and one[0] in self._entries)]
        more = sum(size_of(key) + size_of(value) for _, key, value in chosen)
        olds = [self._entries[one[0]] for one in chosen if one[0] in self._entries]
        less = sum(size_of(key) + size_of(value) for key, value in olds)
        if self._bytes + more - less > MAX_BYTES:
            future.set_result((TOO_LARGE, None))
            return
        for identity, key, value in chosen:
            old = self._entries.get(identity)
            self._bytes += size_of(key) + size_of(value)
            if old is not None:
                self._bytes -= size_of(old[0]) + size_of(old[1])
            self._entries[identity] = key, value
        future.set_result((OK, bool(chosen)))

    def _contains(self, future: Future[Answer], identity: bytes) -> None:
        future.set_result((OK, identity in self._entries))

    def _len(self, future: Future[Answer]) -> None:
        future.set_result((OK, self.count()))

    def count(self) -> int:
        """Return the number of keys."""
        return len(self._entries)

    def _all(self, future: Future[Answer]) -> None:
        future.set_result((OK, list(self._entries.values())))

    def _clear(self, future: Future[Answer]) -> None:
        self._entries.clear()
        self._bytes = 0
        future.set_result((OK, None))
