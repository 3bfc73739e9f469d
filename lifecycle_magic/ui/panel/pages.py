"""Growing data as two traits: an old page that seldom changes, and a new page that is sent often.

A changed trait is always sent as a whole, so growing data in one trait would be sent repeatedly.
Here an addition sends only the small new page; a full new page is moved into the old page. A client
that reads both pages has all the data, even if it joins late.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from lifecycle_magic.engines.base import Usage

__all__ = ["Samples", "Text"]

GAP_SECONDS = 15.0
"""Two samples further apart than this have a gap between them."""

NOISE_CORES = 0.02
NOISE_MIB = 1.0
NOISE_MEMORY_SHARE = 0.01
"""The noise of an idle container's figures: cores, MiB, and a share of its memory."""

Figures = dict[str, tuple[float, float]]


class Text:
    """The last part of a growing text: between half of ``keep`` and about ``keep`` characters."""

    def __init__(self, *, keep: int = 1 << 16, page: int = 1 << 12) -> None:
        self.old = ""
        self.new = ""
        self.cut = 0  # the amount removed at the front, in UTF-16 units as in JavaScript
        self._keep = keep
        self._page = page

    def add(self, text: str) -> None:
        """Append ``text``; remove text at the front up to a line end, if there is one."""
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
    """The usage samples of containers; at most ``keep`` samples.

    A page is ``{"t": [seconds since the epoch, ...], "of": {container: [cores, MiB, ...]}}``, with
    two figures for each time, None in a gap. A figure is valid until the next one, so a sample like
    the previous one is not stored. Containers that are not in the latest sample are removed.
    """

    def __init__(self, *, keep: int = 90, page: int = 10) -> None:
        self.old: dict[str, Any] = {"t": [], "of": {}}
        self.new: dict[str, Any] = {"t": [], "of": {}}
        self._keep = keep
        self._page = page
        self._last: Figures = {}  # of the last stored sample
        self._at = 0.0  # the time of that sample
        self._seen = 0.0  # the time of the last sample, stored or not

    def add(self, at: float, used: Mapping[str, Usage]) -> None:
        """Add a sample of every running container."""
        figures: Figures = {
            name: (round(one.cpu, 2), round(one.memory / 2**20)) for name, one in used.items()
        }
        seen, self._seen = self._seen, at
        unseen = at - seen > GAP_SECONDS
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
    """Return whether the same containers use the same amounts, except for noise."""
    if not before or before.keys() != now.keys():
        return False
    for name, (cpu, memory) in now.items():
        cpu_before, memory_before = before[name]
        if abs(cpu - cpu_before) > NOISE_CORES:
            return False
        if abs(memory - memory_before) > max(NOISE_MIB, NOISE_MEMORY_SHARE * memory_before):
            return False
    return True
