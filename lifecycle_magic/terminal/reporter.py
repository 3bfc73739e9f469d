"""What a script's containers do, as lines on a terminal: what the card is to a cell."""

from __future__ import annotations

import threading
from typing import IO

from lifecycle_magic.panel.text import plain, seconds
from lifecycle_magic.state import GONE, WARM, BuildStep, Event, LogLine, Notice, State, Transition

__all__ = ["Reporter"]


class Reporter:
    """Tells of build steps, starts, ends and notices, a line each; `take` subscribes to a bus."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._began: dict[str, float] = {}  # container → when it began to start, or to exit
        self._exiting: set[str] = set()
        self._lock = threading.Lock()

    def take(self, event: Event) -> None:
        """Tell of one event, if it is worth a line."""
        with self._lock:
            if isinstance(event, LogLine):
                if event.container in self._exiting:  # no call is there to show it
                    self._write(event.text)
            elif told := self._told(event):
                self._write(f"lifecycle-magic: {plain(told)}\n")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            pass  # nobody reads it any more

    def _told(self, event: Event) -> str:
        if isinstance(event, Notice):
            return event.text
        if isinstance(event, BuildStep):
            return self._told_step(event)
        if isinstance(event, Transition):
            return self._told_move(event)
        return ""

    def _told_step(self, event: BuildStep) -> str:
        if event.status == "output":
            return ""
        title = " ".join(event.text.split())
        if event.status == "running":
            return f"{event.cls}: {title}"
        after = ""
        if event.seconds is not None and event.status != "cached":
            after = f" after {seconds(event.seconds)}"
        return f"{event.cls}: {event.status}{after}: {title}"

    def _told_move(self, event: Transition) -> str:
        if event.state in (State.STARTING, State.EXITING):
            self._began[event.container] = event.at
            if event.state is State.EXITING:
                self._exiting.add(event.container)
            return ""
        if event.state in WARM and event.previous is State.ENTERING:
            return f"{event.cls}: warm{self._took(event)}"
        if event.state in GONE:
            self._exiting.discard(event.container)
            return f"{event.cls}: {event.state.value}{self._took(event)}: {event.why}"
        return ""

    def _took(self, event: Transition) -> str:
        began = self._began.pop(event.container, None)
        return "" if began is None else f" after {seconds(max(0.0, event.at - began))}"
