"""Telling of one step of a build: that it began, what it prints, and how it ended."""

from __future__ import annotations

import time
from typing import Literal

from lifecycle_magic.engines.base import OnStep, StepOutput


class Told:
    """One step as ``on_step`` is told of it; the clock runs from here.

    ``number`` and ``of`` count from 1. Without ``on_step`` nobody is told.
    """

    def __init__(self, on_step: OnStep | None, title: str, number: int = 1, of: int = 1) -> None:
        self._on_step = on_step
        self._title = title
        self._number = number
        self._of = of
        self._began = time.monotonic()

    def began(self) -> None:
        """It is at work."""
        self._tell("running", self._title)

    def printed(self, text: str) -> None:
        """It printed ``text``, with the ends of its lines."""
        self._tell("output", text)

    def ended(self, status: Literal["done", "cached", "failed"]) -> None:
        """It is over."""
        self._tell(status, self._title, time.monotonic() - self._began)

    def _tell(
        self,
        status: Literal["running", "output", "done", "cached", "failed"],
        text: str,
        seconds: float | None = None,
    ) -> None:
        if self._on_step is not None:
            self._on_step(StepOutput(self._number, self._of, status, text, seconds))
