"""The containers that wait for the next kernel of their notebook, as the panel shows them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lifecycle_magic.container import kept
from lifecycle_magic.ui.panel.text import cut, plain

__all__ = ["KeptFacts", "KeptSearch", "of_folder"]

MAX_KEPT = 50
SEARCH_INTERVAL_SECONDS = 2.0
SAME_END_SECONDS = 1.0
"""Ends that differ by less are the same one: each answer takes a while to arrive."""


@dataclass(frozen=True)
class KeptFacts:
    """A container without a kernel. ``notebook`` is the one whose next kernel adopts it.

    ``ends`` is when the wait is over, in seconds since the epoch; None while a call of the former
    kernel runs.
    """

    name: str
    cls: str
    engine: str
    notebook: str
    ends: float | None


def of_folder(root: Path) -> tuple[KeptFacts, ...]:
    """Return the containers in the state folder ``root`` that wait for a kernel."""
    found = [
        KeptFacts(
            one.record.container,
            plain(one.record.cls),
            one.record.engine,
            cut(plain(one.record.notebook)),
            None if one.left is None else round(time.time() + one.left, 1),
        )
        for one in kept.find_all(root)[:MAX_KEPT]
    ]
    return tuple(sorted(found, key=lambda one: (one.cls, one.name)))


class KeptSearch:
    """A search for kept containers on a thread of its own: one may be on a slow machine.

    ``found`` is called on that thread when the result differs from the one before.
    """

    def __init__(self, root: Path, found: Callable[[], None]) -> None:
        self.latest: tuple[KeptFacts, ...] = ()
        self._root = root
        self._found = found
        self._next = float("-inf")
        self._thread: threading.Thread | None = None

    def ask(self) -> None:
        """Search again if that is due; do not wait for it."""
        if time.monotonic() < self._next or (self._thread and self._thread.is_alive()):
            return
        self._next = time.monotonic() + SEARCH_INTERVAL_SECONDS
        self._thread = threading.Thread(target=self._search, name="lifecycle-kept", daemon=True)
        self._thread.start()

    def ask_soon(self) -> None:
        """Search at the next `ask`."""
        self._next = float("-inf")

    def _search(self) -> None:
        now = of_folder(self._root)
        if not _are_alike(now, self.latest):
            self.latest = now
            self._found()

    def join(self) -> None:
        """Wait until the running search, if any, is done."""
        if self._thread is not None:
            self._thread.join()


def _are_alike(one: tuple[KeptFacts, ...], other: tuple[KeptFacts, ...]) -> bool:
    if [(a.name, a.ends is None) for a in one] != [(b.name, b.ends is None) for b in other]:
        return False
    ends = zip((a.ends or 0.0 for a in one), (b.ends or 0.0 for b in other), strict=True)
    return all(abs(a - b) < SAME_END_SECONDS for a, b in ends)
