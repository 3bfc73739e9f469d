"""The life of a container as a table, and the records that tell of it.

A container is always in exactly one state, and only the moves in `MOVES` exist. Every
move is made by `Life.move`, which raises with the history when the table has no such
move: a bug then shows where it happens, not three states later.

    building → starting → entering → idle ⇄ busy → draining → exiting → exited
    starting → exited: a spare that nobody needed
    any state before exited ─────────────────────────────────────────→ failed

- building   its image is being made
- starting   the engine launches it; it has not dialled home yet
- entering   it is connected and runs its ``enter`` hooks
- idle       warm, and no input is running
- busy       at least one input is running
- draining   takes no new input, lets the running ones finish
- exiting    runs its ``exit`` hooks, inside the grace
- exited     gone, with every hook run
- failed     gone without that, or never warm; the last move says why

This module is pure: no clock but the one handed in, no I/O, no threads. Subscribers of the
session's bus get the frozen records below and nothing else.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple


class State(enum.Enum):
    """Where a container is in its life; the module's head tells what each means."""

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

WARM = frozenset({State.IDLE, State.BUSY})
COMING = frozenset({State.BUILDING, State.STARTING, State.ENTERING})
GONE = frozenset({State.EXITED, State.FAILED})


class Transition(NamedTuple):
    """A container moved. ``at`` is seconds since the epoch; ``why`` is for people; ``service`` is
    the key of its class in the session, where two classes may have one name.

    A tuple, because two of them are made on the way of every call.
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
    """Output of a container, as it came: one or more lines or a part of one."""

    container: str
    cls: str
    stream: Literal["stdout", "stderr"]
    text: str
    at: float
    service: str = ""


@dataclass(frozen=True, slots=True)
class BuildStep:
    """A step of an image build began, printed, ended or was found built already.

    ``status``: ``running`` | ``output`` | ``done`` | ``cached`` | ``failed``. ``text`` is the
    step's command or name, or for ``output`` what it printed. ``seconds`` is set when it ended.
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
    """Something the user should know that is no error: what was capped, replaced, kept, swept."""

    cls: str | None
    text: str
    at: float
    level: Literal["info", "warning"] = "info"


Event = Transition | LogLine | BuildStep | Notice
Publish = Callable[[Event], None]


class IllegalMove(RuntimeError):
    """A move that the table does not have: a bug of ours, told with the container's history."""


class Life:
    """The state of one container, and how it came there.

    ``clock`` returns seconds since the epoch. The last 64 moves are kept.
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
        """Move to ``to`` and return the record of it; raises `IllegalMove` if the table has
        none.
        """
        if to not in MOVES[self.state]:
            told = " → ".join([t.previous.value for t in self.history] + [self.state.value])
            raise IllegalMove(f"{self.container}: no move to {to.value} ({why}) after {told}")
        at = self._clock()
        record = Transition(self.container, self.cls, self.state, to, why, at, self.service)
        self.state = to
        self.history.append(record)
        return record
