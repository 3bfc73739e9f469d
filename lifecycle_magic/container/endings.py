"""The ways in which the kernel ends a container, in one table.

An `Ending` is a kind and a reason. `RULES` says for each kind in which states of the container it
begins, what happens to the calls that run there, whether ``exit`` runs, and what their callers
get. In another state an ending changes nothing, because the container ends already.

This module is pure; `lifecycle_magic.container.container.Container.end` carries an ending out.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

from lifecycle_magic.exception import ContainerDied, InputCancelled, StartError, StartTimeout
from lifecycle_magic.lifecycle.states import ENDED_STATES, PENDING_STATES, WARM_STATES, State

__all__ = ["DISCONNECTED", "RULES", "SINGLE_USE", "EndKind", "EndRule", "Ending", "effective"]


class EndKind(enum.Enum):
    """The kind of an ending; `RULES` defines each kind."""

    DRAIN = "drain"
    STOP = "stop"
    DISCONNECTED = "disconnected"
    DISMISS = "dismiss"
    KILL = "kill"
    CUT_SHORT = "cut short"
    STARTUP_TIMEOUT = "startup timeout"


@dataclass(frozen=True)
class Ending:
    """A kind of ending, and why the container ends: a clause such as "it was idle"."""

    kind: EndKind
    why: str


@dataclass(frozen=True)
class EndRule:
    """The effect of one kind of ending.

    ``states``: where it begins. ``calls``: what happens to the running calls. ``runs_exit``:
    whether ``exit`` runs if the container entered. ``callers_get``: the exception of the calls
    that run or wait for it, or None if they get their values.
    """

    states: frozenset[State]
    calls: Literal["finish", "interrupt", "interrupt if alone", "die"]
    runs_exit: bool
    callers_get: type[Exception] | None


_ALIVE = frozenset(State) - ENDED_STATES

RULES: dict[EndKind, EndRule] = {
    # Idle, replaced or no longer needed: no new calls.
    EndKind.DRAIN: EndRule(WARM_STATES, "finish", True, None),
    # Its app, session or user ends it. Before it is warm, and while it runs a build hook, there is
    # no exit to run: that is CUT_SHORT.
    EndKind.STOP: EndRule(WARM_STATES | {State.DRAINING}, "interrupt", True, InputCancelled),
    # A connection for calls ended. It exits already, or code in it closed the connection. That
    # call can't be answered and is interrupted, unless other calls run there.
    EndKind.DISCONNECTED: EndRule(
        WARM_STATES | {State.DRAINING}, "interrupt if alone", True, ContainerDied
    ),
    # A spare that is not needed. It has no class, so no hook.
    EndKind.DISMISS: EndRule(PENDING_STATES, "finish", False, None),
    # It is unusable, or does not stop.
    EndKind.KILL: EndRule(_ALIVE, "die", False, ContainerDied),
    # STOP before it is warm, or while it runs a build hook (whose build gets ContainerDied).
    EndKind.CUT_SHORT: EndRule(_ALIVE, "die", False, StartError),
    # Its start exceeds startup_timeout.
    EndKind.STARTUP_TIMEOUT: EndRule(_ALIVE, "die", False, StartTimeout),
}


def effective(ending: Ending, state: State, *, builds: bool) -> Ending:
    """Return the ending of a container in ``state``: STOP is CUT_SHORT if no ``exit`` can run.

    ``builds``: the container runs a build hook.
    """
    if ending.kind is not EndKind.STOP or not (builds or state in PENDING_STATES):
        return ending
    when = "its build hook had finished" if builds else "it was ready"
    return Ending(EndKind.CUT_SHORT, f"it was stopped before {when}: {ending.why}")


DISCONNECTED = Ending(EndKind.DISCONNECTED, "its connection ended")
"""The ending of a container after one of its data connections ended.

It is exiting or unusable. The cause is not known yet, but no other input may begin there.
"""

SINGLE_USE = Ending(EndKind.DRAIN, "it has run its one input (single_use_containers=True)")
"""The ending of a container of a class with ``single_use_containers`` after its input."""
