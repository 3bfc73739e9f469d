"""What only events tell: the build of each class, step by step, and the latest notices.

Whoever looks later finds no trace of either in the session, so they are kept as they come.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass
from typing import Literal

from lifecycle_magic.panel.text import cut, plain
from lifecycle_magic.state import BuildStep, Event, Notice

__all__ = ["Fold", "Said", "Step"]

MOST_STEPS = 40
MOST_NOTICES = 8
NOTICE = 1600
"""Characters of a notice."""


@dataclass(frozen=True)
class Step:
    """A step of an image build. ``began`` is seconds since the epoch, ``seconds`` None while it
    runs; ``detail`` is its last line of output.
    """

    text: str
    status: Literal["running", "done", "cached", "failed"]
    began: float
    seconds: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Said:
    """A notice, or how something that the panel was asked to do went wrong."""

    id: int
    cls: str | None
    text: str
    at: float
    level: Literal["info", "warning"]


class Fold:
    """What events told: the build of each class, and the latest notices."""

    def __init__(self) -> None:
        self.notices: deque[Said] = deque(maxlen=MOST_NOTICES)
        self._builds: dict[str, dict[int, Step]] = {}
        self._of: dict[str, int] = {}
        self._ids = 0

    def take(self, event: Event) -> None:
        """Fold one event in; all but build steps and notices is for others."""
        if isinstance(event, BuildStep):
            self._step(event)
        elif isinstance(event, Notice):
            self.say(event.cls, event.text, event.at, event.level)

    def say(
        self,
        cls: str | None,
        text: str,
        at: float,
        level: Literal["info", "warning"] = "warning",
    ) -> None:
        """One more notice."""
        self._ids += 1
        self.notices.append(Said(self._ids, cls, cut(text, NOTICE), at, level))

    def build(self, key: str) -> tuple[tuple[Step, ...], int]:
        """The steps of the class's last build that are known, and how many it has."""
        steps = self._builds.get(key, {})
        return tuple(steps[n] for n in sorted(steps))[-MOST_STEPS:], self._of.get(key, 0)

    def _step(self, event: BuildStep) -> None:
        steps = self._builds.setdefault(event.service, {})
        known = steps.get(event.step)
        if event.status == "output":
            if known is not None:
                lines = [line for line in plain(event.text).splitlines() if line.strip()]
                if lines:
                    detail = cut(lines[-1].strip())
                    steps[event.step] = dataclasses.replace(known, detail=detail)
            return
        if known is not None and known.seconds is not None:
            steps.clear()  # its number comes again: another build
            known = None
        began = known.began if known is not None else event.at
        seconds = None
        if event.status != "running":
            took = event.at - began if event.seconds is None else event.seconds
            seconds = round(max(0.0, took), 3)
            began = event.at - seconds
        detail = known.detail if known is not None and event.status == "failed" else ""
        text = cut(" ".join(plain(event.text).split()))
        steps[event.step] = Step(text, event.status, round(began, 2), seconds, detail)
        self._of[event.service] = max(event.of, *steps)
