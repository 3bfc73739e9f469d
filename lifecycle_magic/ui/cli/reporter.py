"""Progress of a script's containers as lines on a terminal, as the card is for a cell."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import IO

from lifecycle_magic.building.build_steps import Builds
from lifecycle_magic.lifecycle.bus import Bus
from lifecycle_magic.lifecycle.states import (
    ENDED_STATES,
    WARM_STATES,
    BuildStep,
    Event,
    LogLine,
    Notice,
    State,
    Transition,
    with_class,
)
from lifecycle_magic.ui.panel.text import plain, seconds

__all__ = ["ExitOutput", "Reporter", "is_reporting", "report"]

_reporting: list[Reporter] = []


def report(bus: Bus, stream: IO[str], *, quiet: bool = False) -> Callable[[], None]:
    """Print the events of ``bus`` on ``stream`` from now on. Return a function that ends it."""
    reporter = Reporter(stream, quiet=quiet)
    _reporting.append(reporter)
    unsubscribe = bus.subscribe(reporter.take)

    def end() -> None:
        unsubscribe()
        _reporting.remove(reporter)

    return end


def is_reporting() -> bool:
    """Return whether events are being printed."""
    return bool(_reporting)


class ExitOutput:
    """A subscriber of the event bus that shows what containers print while they exit.

    No call is running then that would show it. ``show`` gets the stream's name and the text.
    """

    def __init__(self, show: Callable[[str, str], object]) -> None:
        self._show = show
        self._exiting: set[str] = set()

    def take(self, event: Event) -> None:
        """Show the output in one event, if it has some."""
        if isinstance(event, LogLine):
            if event.container in self._exiting:
                self._show(event.stream, event.text)
        elif isinstance(event, Transition):
            if event.state is State.EXITING:
                self._exiting.add(event.container)
            elif event.state in ENDED_STATES:
                self._exiting.discard(event.container)


class Reporter:
    """A subscriber of the event bus that prints build steps, starts, ends and notices as lines.

    With ``quiet`` only notices, failures and the output of containers are printed.
    """

    def __init__(self, stream: IO[str], *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._began: dict[str, float] = {}  # container → when its start, or its exit, began
        self._exit_output = ExitOutput(lambda _, text: self._write(text))
        self._builds = Builds()
        self._lock = threading.Lock()

    def take(self, event: Event) -> None:
        """Print a line for one event, if it matters to the user."""
        with self._lock:
            self._exit_output.take(event)
            if (line := self._line(event)) and not (self._quiet and _is_progress(event)):
                self._write(f"lifecycle-magic: {plain(line)}\n")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            pass  # the stream is closed

    def _line(self, event: Event) -> str:
        if isinstance(event, Notice):
            return with_class(event.cls, event.text)
        if isinstance(event, BuildStep):
            return self._step_line(event)
        if isinstance(event, Transition):
            return self._transition_line(event)
        return ""

    def _step_line(self, event: BuildStep) -> str:
        step = self._builds.take(event)
        if step is None or event.status == "output":
            return ""
        title = " ".join(step.text.split())
        if step.status == "running":
            return f"{event.cls}: {title}"
        after = ""
        if step.seconds is not None and step.status != "cached":
            after = f" after {seconds(step.seconds)}"
        return f"{event.cls}: {step.status}{after}: {title}"

    def _transition_line(self, event: Transition) -> str:
        if event.state in (State.STARTING, State.EXITING):
            self._began[event.container] = event.at
            return ""
        if event.state in WARM_STATES and event.previous is State.ENTERING:
            return f"{event.cls}: warm{self._took(event)}"
        if event.state in ENDED_STATES:
            return f"{event.cls}: {event.state.value}{self._took(event)}: {event.why}"
        return ""

    def _took(self, event: Transition) -> str:
        began = self._began.pop(event.container, None)
        return "" if began is None else f" after {seconds(max(0.0, event.at - began))}"


def _is_progress(event: Event) -> bool:
    """Return whether an event only says how far something is."""
    if isinstance(event, BuildStep):
        return event.status != "failed"
    return isinstance(event, Transition) and event.state is not State.FAILED
