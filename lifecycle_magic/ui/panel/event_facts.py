"""Facts that only events carry: the build steps of each class, and the latest notices.

The session itself keeps neither, so `EventCollector` collects them as the events arrive.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Literal

from lifecycle_magic.engines.output_tail import OutputTail
from lifecycle_magic.lifecycle.states import BuildStep, Event, Notice
from lifecycle_magic.ui.panel.text import cut, plain

__all__ = ["EventCollector", "PanelNotice", "Step"]

MAX_STEPS = 40
MAX_NOTICES = 8
MAX_NOTICE_CHARS = 1600


@dataclass(frozen=True)
class Step:
    """A step of an image build.

    ``began`` is in seconds since the epoch; ``seconds`` is the duration, None while the step runs;
    ``detail`` is its last line of output.
    """

    text: str
    status: Literal["running", "done", "cached", "failed"]
    began: float
    seconds: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class PanelNotice:
    """A notice, or the error of an action requested in the panel."""

    id: int
    cls: str | None
    text: str
    at: float
    level: Literal["info", "warning"]


class EventCollector:
    """The facts of events: the build of each class, and the latest notices."""

    def __init__(self) -> None:
        self.notices: deque[PanelNotice] = deque(maxlen=MAX_NOTICES)
        self._builds: dict[str, dict[int, Step]] = {}
        self._of: dict[str, int] = {}
        self._output: defaultdict[str, OutputTail] = defaultdict(OutputTail)
        self._ids = 0

    def take(self, event: Event) -> None:
        """Apply one event; only build steps and notices have an effect."""
        if isinstance(event, BuildStep):
            self._step(event)
        elif isinstance(event, Notice):
            self.add_notice(event.cls, event.text, event.at, event.level)

    def add_notice(
        self,
        cls: str | None,
        text: str,
        at: float,
        level: Literal["info", "warning"] = "warning",
    ) -> None:
        """Add a notice."""
        self._ids += 1
        self.notices.append(PanelNotice(self._ids, cls, cut(text, MAX_NOTICE_CHARS), at, level))

    def build(self, key: str) -> tuple[tuple[Step, ...], int]:
        """Return the known steps of the class's last build, and their total number."""
        steps = self._builds.get(key, {})
        return tuple(steps[n] for n in sorted(steps))[-MAX_STEPS:], self._of.get(key, 0)

    def _step(self, event: BuildStep) -> None:
        steps = self._builds.setdefault(event.service, {})
        known = steps.get(event.step)
        if event.status == "output":
            if known is not None:
                tail = self._output[event.service]
                tail.add(event.text)
                detail = cut(tail.last_line().strip()) or known.detail
                steps[event.step] = dataclasses.replace(known, detail=detail)
            return
        if event.status == "running":
            self._output[event.service] = OutputTail()
        if known is not None and known.seconds is not None:
            steps.clear()  # the step number repeats: a new build
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
