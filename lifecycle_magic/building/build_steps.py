"""The steps of image builds, computed from the session's events: one record for all who show them.

`Build` is one build of a class: the card of a cell has one. `Builds` keeps the last build of each
class: the session has one, which the panel reads. Neither reads a clock; all times come from the
events.
"""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import dataclass
from typing import Literal

from lifecycle_magic.engines.output_tail import OutputTail
from lifecycle_magic.lifecycle.states import BuildStep, Event

__all__ = ["Build", "Builds", "StepProgress"]


@dataclass(frozen=True)
class StepProgress:
    """A step of an image build.

    ``began`` is in seconds since the epoch; ``seconds`` is the duration, None while the step runs;
    ``detail`` is the last line that it printed, empty once it has succeeded.
    """

    number: int
    text: str
    status: Literal["running", "done", "cached", "failed"]
    began: float
    seconds: float | None = None
    detail: str = ""


class Build:
    """The steps of one build; a step number that repeats begins the next build.

    >>> build = Build()
    >>> build.take(BuildStep("Model", 1, 2, "running", "pip install six", at=10.0)).seconds
    >>> build.take(BuildStep("Model", 1, 2, "output", "Collecting six", at=11.0)).detail
    'Collecting six'
    >>> build.take(BuildStep("Model", 1, 2, "done", "pip install six", at=12.5)).seconds
    2.5
    >>> build.total
    2
    """

    def __init__(self) -> None:
        self.total = 0  # the number of steps, as far as known
        self.output = OutputTail()  # of the step that began last
        self._steps: dict[int, StepProgress] = {}

    @property
    def steps(self) -> tuple[StepProgress, ...]:
        """The known steps, in their order."""
        return tuple(self._steps[number] for number in sorted(self._steps))

    @property
    def is_running(self) -> bool:
        """Return whether a step runs now."""
        return any(step.seconds is None for step in self._steps.values())

    def take(self, event: BuildStep) -> StepProgress | None:
        """Apply one event and return its step, None for output of a step that does not run."""
        known = self._steps.get(event.step)
        if event.status == "output":
            if known is None or known.seconds is not None:
                return None
            self.output.add(event.text)
            return self._set(dataclasses.replace(known, detail=self.output.last_line()))
        if event.status == "running":
            self.output.clear()
        if known is not None and known.seconds is not None:
            self._steps.clear()
            known = None
        self.total = max(event.of, event.step, *self._steps)
        if event.status == "running":
            # A known step is tried again in another way.
            began = event.at if known is None else known.began
            return self._set(StepProgress(event.step, event.text, "running", began))
        began = event.at if known is None else known.began
        seconds = max(0.0, event.at - began) if event.seconds is None else event.seconds
        detail = known.detail if known is not None and event.status == "failed" else ""
        return self._set(
            StepProgress(event.step, event.text, event.status, event.at - seconds, seconds, detail)
        )

    def _set(self, step: StepProgress) -> StepProgress:
        self._steps[step.number] = step
        return step


class Builds:
    """The last build of each class of a session, by the class's key. Safe from any thread."""

    def __init__(self) -> None:
        self._builds: dict[str, Build] = {}
        self._lock = threading.Lock()

    def take(self, event: Event) -> StepProgress | None:
        """Apply one event and return its step, None for other events and stray output."""
        if not isinstance(event, BuildStep):
            return None
        with self._lock:
            return self._builds.setdefault(event.service, Build()).take(event)

    def last(self, key: str) -> tuple[tuple[StepProgress, ...], int]:
        """Return the known steps of the class's last build, and their total number."""
        with self._lock:
            build = self._builds.get(key)
            return (build.steps, build.total) if build is not None else ((), 0)
