"""Reports of one step of a build: its start, its output and its end."""

from __future__ import annotations

import time
from typing import Literal

from lifecycle_magic.engines.base import OnStep, StepOutput


class StepReporter:
    """A reporter of one step to ``on_step``; the clock starts with its creation.

    ``number`` and ``of`` count from 1. Without ``on_step`` nothing is reported.
    """

    def __init__(self, on_step: OnStep | None, title: str, number: int = 1, of: int = 1) -> None:
        self._on_step = on_step
        self.title = title
        self.number = number
        self.of = of
        self._began = time.monotonic()

    def report_start(self) -> None:
        """Report that the step runs."""
        self._report("running", self.title)

    def report_output(self, text: str) -> None:
        """Report the output ``text``, including line ends."""
        self._report("output", text)

    def report_end(self, status: Literal["done", "cached", "failed"]) -> None:
        """Report the end of the step."""
        self._report(status, self.title, time.monotonic() - self._began)

    def _report(
        self,
        status: Literal["running", "output", "done", "cached", "failed"],
        text: str,
        seconds: float | None = None,
    ) -> None:
        if self._on_step is not None:
            self._on_step(StepOutput(self.number, self.of, status, text, seconds))
