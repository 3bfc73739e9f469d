"""The start of a container: launch, handshake and ``enter``.

The first half needs no class, so a spare container runs it ahead of time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lifecycle_magic.container import gpus
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.container.worker_answers import REPORT_WAIT_SECONDS, run_enter
from lifecycle_magic.exception import StartError
from lifecycle_magic.lifecycle.states import State

if TYPE_CHECKING:
    from lifecycle_magic.container.container import Container

__all__ = ["start", "start_spare"]

FAILED_ENTER_SECONDS = 1.0
"""Seconds in which a container whose ``enter`` failed may exit by itself. Its report then has its
last lines; a container that is killed has no report."""


def start(container: Container, show: Callable[[str, str], None]) -> None:
    """Launch a container, complete the handshake and run ``enter``.

    Output of ``enter`` goes to ``show(stream, text)``. Raises the exception that ``enter`` raised,
    or `StartError` with the container's last output. After any exception the container is exiting.
    """
    bound = container.plan.startup_timeout
    if not container.is_connected:
        _take_gpus(container, show, bound)
    deadline = time.monotonic() + bound
    late = Ending(EndKind.STARTUP_TIMEOUT, f"startup_timeout of {bound:g} s")
    overdue = container.event_loop.call_later(bound, lambda: container.end(late))
    try:
        if not container.is_connected:
            container.connect(deadline)
        container.move_alive(State.ENTERING)
        run_enter(container, show)
        _mark_ready(container)
    except BaseException as error:
        if container.reported_start_failure:
            container.exited.wait(FAILED_ENTER_SECONDS)
        container.end(Ending(EndKind.KILL, f"it did not start: {error}"), wait=True)
        raise
    finally:
        overdue.cancel()
        container.connections.end_start(container)


def _take_gpus(container: Container, show: Callable[[str, str], None], bound: float) -> None:
    """Lease the container's GPUs: this wait is not a part of its start."""
    try:
        gpus.take(container, show, bound)
    except BaseException as error:
        container.end(Ending(EndKind.KILL, f"it did not start: {error}"), wait=True)
        raise


def start_spare(container: Container) -> None:
    """Run the first half of `start`, the launch and the handshake, and wait for a plan as a
    spare.
    """
    container.is_spare = True
    try:
        container.connect(time.monotonic() + container.plan.startup_timeout)
    except BaseException as error:
        container.end(Ending(EndKind.KILL, f"it did not start: {error}"), wait=True)
        raise
    container.connections.end_start(container)


def _mark_ready(container: Container) -> None:
    if container.become_warm():
        return
    # It exited, or was asked to exit, at this very moment.
    container.exited.wait(container.plan.grace + REPORT_WAIT_SECONDS)
    raise StartError(
        f"the container of {container.plan.cls} exited once it was ready: "
        f"{container.explain_exit()}"
    )
