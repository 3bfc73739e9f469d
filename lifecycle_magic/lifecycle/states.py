"""The life of a container as a state table, and the records of its changes.

A container is always in exactly one state, and only the moves in `MOVES` exist. Every move is made
by `StateMachine.move`, which raises with the history when the table has no such move: a bug then
shows where it happens, not three states later.

    building → starting → entering → idle ⇄ busy → draining → exiting → exited
    starting → exited: a spare container that was not needed
    any state before exited ─────────────────────────────────────────→ failed

- building   its image is being built
- starting   the engine starts it; it has not connected yet
- entering   it is connected and runs its ``enter`` hooks
- idle       warm, and no input is running
- busy       at least one input is running
- draining   takes no new input, lets the running ones finish
- exiting    runs its ``exit`` hooks, within the grace period
- exited     ended, with every hook run
- failed     ended otherwise, or never warm; the last move says why

This module is pure: its only clock is the one passed in, and it has no I/O and no threads.
Subscribers of the session's bus get the frozen records below and nothing else.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple


class State(enum.Enum):
    """The state of a container; the module's docstring defines each one."""

    BUILDING = "building"
    STARTING = "starting"
    ENTERING = "entering"
    IDLE = "idle"
    BUSY = "busy"
    DRAINING = "draining"
    EXITING = "exiting"
    EXITED = "exited"
    FAILED = "failed"

    # An identity hash: members are singletons, and moves are on the call path.
    __hash__ = object.__hash__


MOVES: dict[State, frozenset[State]] = {
    State.BUILDING: frozenset({State.STARTING, State.FAILED}),
    State.STARTING: frozenset({State.ENTERING, State.EXITED, State.FAILED}),
    State.ENTERING: frozenset({State.IDLE, State.EXITING, State.FAILED}),
    State.IDLE: frozenset({State.BUSY, State.DRAINING, State.EXITING, State.FAILED}),
    State.BUSY: frozenset({State.IDLE, State.DRAINING, State.EXITING, State.FAILED}),
    State.DRAINING: frozenset({State.EXITING, State.EXITED, State.FAILED}),
    State.EXITING: frozenset({State.EXITED, State.FAILED}),
    State.EXITED: frozenset(),
    State.FAILED: frozenset(),
}

WARM_STATES = frozenset({State.IDLE, State.BUSY})
PENDING_STATES = frozenset({State.BUILDING, State.STARTING, State.ENTERING})
ENDED_STATES = frozenset({State.EXITED, State.FAILED})


class Transition(NamedTuple):
    """A move of a container. ``at`` is seconds since the epoch; ``why`` is human-readable;
    ``service`` is the key of its class in the session, where two classes may share a name.

    A tuple, because two of them are made during every call.
    """

    container: str
    cls: str
    previous: State
    state: State
    why: str
    at: float
    service: str = ""


@dataclass(frozen=True, slots=True)
class LogLine:
    """Output of a container, as it arrived: several lines, one line or a part of one."""

    container: str
    cls: str
    stream: Literal["stdout", "stderr"]
    text: str
    at: float
    service: str = ""


@dataclass(frozen=True, slots=True)
class BuildStep:
    """An event of one step of an image build: it began, printed, ended or was cached.

    ``status``: ``running`` | ``output`` | ``done`` | ``cached`` | ``failed``. ``text`` is the
    step's command or name, for ``output`` what it printed. ``seconds`` is its duration, set when it
    ended.
    """

    cls: str
    step: int
    of: int
    status: Literal["running", "output", "done", "cached", "failed"]
    text: str
    at: float
    seconds: float | None = None
    service: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """Information for the user that is no error, such as what was capped, replaced, kept or
    swept. ``service`` is the key of the class in the session, which has the app's name too.
    """

    cls: str | None
    text: str
    at: float
    level: Literal["info", "warning"] = "info"
    service: str = ""

    @property
    def whole(self) -> str:
        """The text with the names of app and class in front, once.

        >>> Notice("Model", "Model: LIMIT changed", 0.0, service="shop/Model").whole
        'shop/Model: LIMIT changed'
        >>> Notice("Model", "LIMIT changed", 0.0, service="cell/Model").whole
        'Model: LIMIT changed'
        """
        name = self.service.partition("?")[0].removeprefix("cell/") or self.cls
        return with_class(name, self.text.removeprefix(f"{self.cls}: ") if self.cls else self.text)


def with_class(cls: str | None, text: str) -> str:
    """Return a notice's text as a line that names its class once.

    >>> with_class("Model", "LIMIT changed"), with_class("Model", "Model: LIMIT changed")
    ('Model: LIMIT changed', 'Model: LIMIT changed')
    """
    return text if cls is None or text.startswith(f"{cls}: ") else f"{cls}: {text}"


Event = Transition | LogLine | BuildStep | Notice
Publish = Callable[[Event], None]


class IllegalMove(RuntimeError):
    """A move that the table does not have: a bug of this package, shown with the container's
    history.
    """


class StateMachine:
    """The state of one container, and its last 64 moves.

    ``clock`` returns seconds since the epoch.
    """

    __slots__ = ("_clock", "cls", "container", "history", "service", "state")

    def __init__(
        self, container: str, cls: str, clock: Callable[[], float], service: str = ""
    ) -> None:
        self.container = container
        self.cls = cls
        self.service = service
        self.state = State.BUILDING
        self.history: deque[Transition] = deque(maxlen=64)
        self._clock = clock

    def move(self, to: State, why: str = "") -> Transition:
        """Move to ``to`` and return the record of the move.

        Raises `IllegalMove` if the table has no such move.
        """
        if to not in MOVES[self.state]:
            path = " → ".join([t.previous.value for t in self.history] + [self.state.value])
            raise IllegalMove(f"{self.container}: no move to {to.value} ({why}) after {path}")
        at = self._clock()
        record = Transition(self.container, self.cls, self.state, to, why, at, self.service)
        self.state = to
        self.history.append(record)
        return record
