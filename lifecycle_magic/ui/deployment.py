"""The progress of a deployment, computed from the session's events: the facts that a card shows.

`DeploymentProgress.take` reads one event; `DeploymentProgress.view` returns a frozen
`DeploymentView` of all events so far. This module displays nothing, waits for nothing and reads no
clock: all times come from the events.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from lifecycle_magic.building.build_steps import Build
from lifecycle_magic.container.container import ADOPTED
from lifecycle_magic.lifecycle.states import BuildStep, Event, Notice, State, Transition

__all__ = ["Address", "DeploymentProgress", "DeploymentView", "StepRow"]

Status = Literal["running", "cached", "done", "failed", "note"]


@dataclass(frozen=True)
class StepRow:
    """One step. ``seconds`` is None while it runs; ``detail`` is its last line of output."""

    title: str
    status: Status
    seconds: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Address:
    """The address of a method that answers HTTP; ``link`` is its URL for the user's browser."""

    method: str
    url: str
    link: str


@dataclass(frozen=True)
class DeploymentView:
    """Everything that a card shows. ``tail`` is the last output of the step that failed."""

    name: str
    engine: str
    status: Literal["running", "done", "failed"]
    headline: str
    rows: tuple[StepRow, ...]
    notices: tuple[str, ...]
    tail: tuple[str, ...]
    seconds: float | None
    addresses: tuple[Address, ...] = ()


class DeploymentProgress:
    """The deployment of the class ``name``; its rows show the names of the hooks.

    ``began`` is in seconds since the epoch, like the times of the events. ``service`` is the
    class's key in the session.
    """

    def __init__(
        self,
        name: str,
        began: float,
        *,
        enter: tuple[str, ...] = (),
        exit: tuple[str, ...] = (),
        service: str = "",
    ) -> None:
        self._name = name
        self._service = service
        self._enter = enter
        self._exit = exit
        self._engine = ""
        self._began = began
        self._rows: list[StepRow] = []
        self._since: dict[int, float] = {}  # row → its start, while it runs
        self._build = Build()
        self._steps: dict[int, int] = {}  # build step → its row, while it runs
        self._containers: dict[str, int] = {}  # container → its row, while it starts or ends
        self._starting: set[int] = set()  # the rows about the start of a container
        self._aside: set[str] = set()  # containers that only run a build hook
        self._notices: list[str] = []
        self._addresses: tuple[Address, ...] = ()
        self._headline = "done"
        self._status: Literal["running", "done", "failed"] = "running"
        self._ended: float | None = None

    def take(self, event: Event) -> bool:
        """Apply one event; return whether it is more than another line of a step's output."""
        if isinstance(event, Notice):
            is_other = event.service not in ("", self._service)
            if is_other or event.cls not in (None, self._name) or event.text in self._notices:
                return False
            self._notices.append(event.text)
            return True
        if (event.cls, event.service) != (self._name, self._service):
            return False
        if isinstance(event, BuildStep):
            return self._take_step(event)
        return self._take_move(event) if isinstance(event, Transition) else False

    def set_headline(self, headline: str) -> None:
        """Set the headline that is shown after the end."""
        self._headline = headline

    def add_note(self, text: str) -> None:
        """Add a line below the steps."""
        self._notices.append(text)

    def set_addresses(self, addresses: tuple[Address, ...]) -> None:
        """Set the addresses of the methods that answer HTTP."""
        self._addresses = addresses

    def set_engine(self, name: str) -> None:
        """Set the name of the engine, which is unknown at first."""
        self._engine = name

    def end(self, at: float, error: BaseException | None = None) -> None:
        """End the deployment: running steps fail with ``error``, or continue in the background."""
        self._ended = at
        self._status = "done" if error is None else "failed"
        ending = set(self._containers.values()) - self._starting
        for row in list(self._since):
            if error is None or row in ending:
                self._rows[row] = dataclasses.replace(self._rows[row], status="note")
            else:
                self._close(row, "failed", at)

    def view(self) -> DeploymentView:
        """Return what to show now."""
        return DeploymentView(
            name=self._name,
            engine=self._engine,
            status=self._status,
            headline=self._headline if self._ended is not None else self._doing(),
            rows=tuple(self._rows),
            notices=tuple(self._notices),
            tail=tuple(self._build.output.lines()) if self._status == "failed" else (),
            seconds=None if self._ended is None else self._ended - self._began,
            addresses=self._addresses,
        )

    def _doing(self) -> str:
        """Return the headline while the deployment runs."""
        if self._steps:
            return "building its image"
        return "starting a container" if self._starting else "looking for its image"

    # --- steps of the image ------------------------------------------------------------------

    def _take_step(self, event: BuildStep) -> bool:
        step = self._build.take(event)
        if step is None:
            return False
        row = self._steps.get(step.number)
        if row is None:
            row = self._steps[step.number] = self._open(step.text, event.at)
        # The output of a failed step is shown below all rows; that of other steps is not shown.
        detail = step.detail if step.status == "running" else ""
        self._rows[row] = StepRow(self._rows[row].title, step.status, step.seconds, detail)
        if step.status != "running":
            del self._steps[step.number], self._since[row]
        return event.status != "output"

    # --- containers --------------------------------------------------------------------------

    def _take_move(self, event: Transition) -> bool:
        if self._steps and event.previous is State.BUILDING:
            self._aside.add(event.container)
        if event.container in self._aside:
            return False
        row = self._containers.pop(event.container, None)
        if row is not None:
            self._close(row, "failed" if event.state is State.FAILED else "done", event.at)
        title = self._title(event.state, is_adopted=event.why == ADOPTED)
        if title and (row is not None or event.state in (State.STARTING, State.DRAINING)):
            # A container that was exiting before belongs to an earlier card.
            row = self._containers[event.container] = self._open(title, event.at)
            if event.state in (State.STARTING, State.ENTERING):
                self._starting.add(row)
        return row is not None

    def _title(self, state: State, *, is_adopted: bool) -> str:
        if is_adopted:
            return "container of the previous kernel" if state is State.STARTING else ""
        if state is State.STARTING:
            return "container"
        if state is State.ENTERING and self._enter:
            return ", ".join(f"{name}()" for name in self._enter)
        if state is State.DRAINING:
            return "previous container: finishing its running calls"
        if state is State.EXITING:
            hooks = ", ".join(f"{name}()" for name in self._exit)
            return f"previous container: {hooks}" if hooks else ""
        return ""

    # --- rows --------------------------------------------------------------------------------

    def _open(self, title: str, at: float) -> int:
        self._rows.append(StepRow(title, "running"))
        self._since[len(self._rows) - 1] = at
        return len(self._rows) - 1

    def _close(self, row: int, status: Status, at: float) -> None:
        seconds = max(0.0, at - self._since.pop(row, at))
        self._rows[row] = StepRow(self._rows[row].title, status, seconds)
