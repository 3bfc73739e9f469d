"""The worker's answers to its setup and to new code, and the errors for answers that are missing
or broken.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from lifecycle_magic.container.endings import DISCONNECTED, Ending, EndKind
from lifecycle_magic.container.handshake import startup_timeout_error
from lifecycle_magic.errors.remote import rebuild
from lifecycle_magic.exception import ContainerDied, StartError, WireError
from lifecycle_magic.wire.frames import SWAP_TAG, Frame, Kind
from lifecycle_magic.wire.messages import Swap, failure
from lifecycle_magic.wire.pickling import dumps

if TYPE_CHECKING:
    from lifecycle_magic.container.container import Container
    from lifecycle_magic.container.slots import Slot

__all__ = [
    "REPORT_WAIT_SECONDS",
    "FramesReference",
    "broken",
    "death_error",
    "load_code",
    "read_failure",
]
__all__ += ["run_enter"]


class FramesReference(NamedTuple):
    """The frames of the last exception of a method that a container keeps.

    ``at`` is when the exception arrived, in seconds since the epoch.
    """

    id: str
    at: float


REPORT_WAIT_SECONDS = 10.0
"""Seconds to wait for a supervisor's report after the worker's socket has closed."""


def run_enter(container: Container, show: Callable[[str, str], None]) -> None:
    """Send the class to the worker, and wait until its ``enter`` has run.

    Output of ``enter`` goes to ``show(stream, text)``. Raises the exception that ``enter`` raised,
    or `StartError`.
    """
    plan, slot = container.plan, container.slots[0]
    try:
        slot.channel.send(Kind.SETUP, *dumps(plan.setup))
    except WireError:
        raise  # the setup is too large
    except OSError:
        pass  # it has exited already, which the read below reports
    container.connections.show_start = show
    try:
        frame = slot.read_answer(show)
    except WireError as error:
        raise _killed(container, *broken(container, str(error))) from None
    finally:
        container.connections.show_start = None
    if frame is None:
        container.exited.wait(REPORT_WAIT_SECONDS)
        if container.cause.is_killed_by(EndKind.STARTUP_TIMEOUT):
            raise startup_timeout_error(plan, "enter did not finish")
        raise StartError(f"the container of {plan.cls} died in enter: {container.explain_exit()}")
    if frame.kind == Kind.READY:
        return
    if frame.kind == Kind.FAILURE:
        container.reported_start_failure = True
        raise _killed(container, *read_failure(container, frame, "enter", stays=False))
    if frame.kind in (Kind.CANCELLED, Kind.SKIPPED):
        container.reported_start_failure = True
        raise StartError(f"enter of {plan.cls} was interrupted")
    what = f"a frame of kind {frame.kind} instead of the answer of enter"
    raise _killed(container, *broken(container, what))


def _killed(container: Container, error: BaseException, ending: Ending | None) -> BaseException:
    if ending is not None:
        container.end(ending)
    return error


def load_code(container: Container, code: Swap, slot: Slot) -> None:
    """Load new code into the live instance, by way of a free slot.

    Raises the exception that loading the new class raised; the old code then stays. A container
    that does not answer within ``startup_timeout`` is killed, which raises `ContainerDied`.
    """

    def kill(why: str) -> None:
        container.end(Ending(EndKind.KILL, why))

    bound = container.plan.startup_timeout
    overdue = container.event_loop.call_later(
        bound, lambda: kill(f"it did not load its new code within {bound:g} s")
    )
    try:
        slot.channel.send(Kind.SWAP, *dumps(code))
        frame = slot.read_answer()
    except OSError:
        frame = None
    except BaseException:
        # Otherwise the next reader of this slot would get the answer to this code.
        kill("the change of its code was interrupted")
        raise
    finally:
        overdue.cancel()
    if frame is not None and frame.tag != SWAP_TAG:
        kill("its connection broke: it sent an unexpected answer to its new code")
        frame = None
    if frame is None:
        container.end(DISCONNECTED)
        container.wait_for_report()
        raise death_error(container)
    if frame.kind == Kind.FAILURE:
        raise rebuild(failure(frame.payload), container.plan.cls)
    container.code = code


def death_error(container: Container, method: str = "") -> ContainerDied:
    """Return the error for an input that was running when the container exited, once the cause is
    known.
    """
    tail = container.cause.report.tail if container.cause.report is not None else ""
    last = f"\nIts last lines:\n{tail}" if tail else ""
    where = container.plan.title(method) if method else container.plan.cls
    return ContainerDied(
        f"the container of {where} exited while the call was running: "
        f"{container.explain_exit()}{last}"
    )


def broken(container: Container, what: str) -> tuple[WireError, Ending]:
    """Return the error and the ending for a container whose worker sent ``what``.

    A worker never sends that. The start of the next frame and the input to which it belongs are
    unknown from here on.
    """
    error = WireError(
        f"the container of {container.plan.cls} sent {what}, and is replaced. "
        "Fix: check whether code in it writes to file descriptors that it did not open"
    )
    return error, Ending(EndKind.KILL, f"its connection broke: {what}")


def read_failure(
    container: Container, frame: Frame, method: str, *, stays: bool = True
) -> tuple[BaseException, Ending | None]:
    """Return the exception in a FAILURE frame, and an ending for a frame that can't be read.

    ``stays`` says whether the container stays warm, which some exceptions mention.
    """
    try:
        found = failure(frame.payload)
    except WireError as error:
        return broken(container, str(error))
    if found.frames:
        container.kept_frames = FramesReference(found.frames, time.time())
    return rebuild(found, container.plan.title(method), stays=stays), None
