"""Growing things as two traits: an old page that seldom changes, and a new one that is sent often.

A trait is sent whole whenever it changes, so what grows would be sent over and over. Here an
addition costs the new page alone, which is small; when it is full, its content goes to the old one.
Whoever reads both has everything, also one who joins late.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from lifecycle_magic.engines.base import Usage

__all__ = ["Samples", "Text"]

GAP = 15.0
"""Seconds between two samples after which nobody is taken to have looked."""

CORES = 0.02
MIB = 1.0
SHARE = 0.01
"""What an idle container's figures waver by: cores, MiB, and a share of its memory."""

Figures = dict[str, tuple[float, float]]


class Text:
    """The last ``keep`` characters or so of a text that grows; at least half of that."""

    def __init__(self, *, keep: int = 1 << 16, page: int = 1 << 12) -> None:
        self.old = ""
        self.new = ""
        self.cut = 0  # what went at the front, as JavaScript counts: in UTF-16 units
        self._keep = keep
        self._page = page

    def add(self, text: str) -> None:
        """Put ``text`` at the end; what is cut at the front is cut at a line's end, if it has
        any.
        """
        self.new += text
        if len(self.new) <= self._page:
            return
        whole, self.new = self.old + self.new, ""
        if len(whole) > self._keep:
            start = len(whole) - self._keep * 3 // 4
            line = whole.find("\n", start, start + self._keep // 4)
            start = line + 1 if line >= 0 else start
            self.cut += len(whole[:start].encode("utf-16-le", "surrogatepass")) // 2
            whole = whole[start:]
        self.old = whole


class Samples:
    """What containers used, sample by sample; ``keep`` samples at most.

    A page is ``{"t": [seconds since the epoch, ...], "of": {container: [cores, MiB, ...]}}``, with
    two figures for each time, None where nobody looked. A figure holds until the next one, so a
    sample that is like the last one is none. A container that is not in the latest sample is
    forgotten.
    """

    def __init__(self, *, keep: int = 90, page: int = 10) -> None:
        self.old: dict[str, Any] = {"t": [], "of": {}}
        self.new: dict[str, Any] = {"t": [], "of": {}}
        self._keep = keep
        self._page = page
        self._last: Figures = {}  # of the last sample that counted
        self._at = 0.0  # its time
        self._seen = 0.0  # and that of the last one

    def add(self, at: float, used: Mapping[str, Usage]) -> None:
        """One more sample, of every container that is there."""
        figures: Figures = {
            name: (round(one.cpu, 2), round(one.memory / 2**20)) for name, one in used.items()
        }
        seen, self._seen = self._seen, at
        unseen = at - seen > GAP
        if not unseen and _alike(self._last, figures):
            return
        if self._last and unseen:
            self._put(seen, dict.fromkeys(self._last, (None, None)))
        elif seen > self._at:
            self._put(seen, self._last)
        self._put(at, figures)
        self._last, self._at = figures, at

    def _put(self, at: float, figures: Mapping[str, tuple[float | None, float | None]]) -> None:
        if len(self.new["t"]) >= self._page:
            self.old = self._joined(figures)
            self.new = {"t": [], "of": {}}
        before = self.new
        gap = [None, None] * len(before["t"])
        self.new = {
            "t": [*before["t"], round(at, 1)],
            "of": {name: [*before["of"].get(name, gap), *two] for name, two in figures.items()},
        }

    def _joined(self, names: Collection[str]) -> dict[str, Any]:
        old, new = self.old, self.new
        drop = max(0, len(old["t"]) + len(new["t"]) - self._keep)
        gaps = ([None, None] * len(old["t"]), [None, None] * len(new["t"]))
        return {
            "t": (old["t"] + new["t"])[drop:],
            "of": {
                name: (old["of"].get(name, gaps[0]) + new["of"].get(name, gaps[1]))[2 * drop :]
                for name in names
                if name in old["of"] or name in new["of"]
            },
        }


def _alike(before: Figures, now: Figures) -> bool:
    """Whether the same containers use the same, but for what an idle one's figures waver by."""
    if not before or before.keys() != now.keys():
        return False
    for name, (cpu, memory) in now.items():
        cpu_before, memory_before = before[name]
        if abs(cpu - cpu_before) > CORES:
            return False
        if abs(memory - memory_before) > max(MIB, SHARE * memory_before):
            return False
    return True
