"""Why a container exits or has exited, as far as is known."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.engines.base import Ended, Engine
from lifecycle_magic.exception import EngineError
from lifecycle_magic.lifecycle.report import Report, describe_end
from lifecycle_magic.lifecycle.states import State

if TYPE_CHECKING:
    from lifecycle_magic.container.container import Container
    from lifecycle_magic.container.slots import Slot

__all__ = ["ExitCause", "clear_run_folder", "may_have_begun"]


class ExitCause:
    """The cause of an exit, from the kernel, the supervisor and the engine.

    ``reason``: why the container drains or exits. ``killed``: the ending by which the kernel killed
    it. ``report``: the supervisor's, once it is there.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.killed: Ending | None = None
        self.report: Report | None = None
        self._ended: Ended | None = None  # the engine's account, used where there is no report

    @property
    def kill_reason(self) -> str:
        """Return why the kernel killed the container, or an empty string."""
        return self.killed.why if self.killed is not None else ""

    def is_killed_by(self, kind: EndKind) -> bool:
        """Return whether the kernel killed the container by this kind of ending."""
        return self.killed is not None and self.killed.kind is kind

    def find(self, engine: Engine, container: str | None, run_dir: Path) -> None:
        """Find the cause after the exit: read the report, otherwise ask the engine.

        ``container`` is the engine's id, if the container was launched. Blocks.
        """
        if self.report is None:  # the connection may have lost it
            self.report = Report.from_run_folder(run_dir)
        if self.killed is not None and self.report is not None and _is_of_a_kill(self.report):
            # On a swarm process 1 lives through the kernel's kill, and reports what it saw of it.
            self.report = None
            return
        if self.report is not None or container is None:
            return
        try:
            self._ended = engine.ended(container)
            clear_run_folder(engine, container, run_dir)
            engine.kill(container)  # its processes may survive although its sockets are closed
        except EngineError as error:
            self.killed = self.killed or Ending(
                EndKind.KILL, f"the engine does not answer: {error}"
            )

    def is_clean(self, container: Container) -> bool:
        """Return whether all hooks of ``container`` ran. A spare has none."""
        report = self.report
        if report is None or not report.in_order:
            return False
        leaving = container.state in (State.DRAINING, State.EXITING)
        return container.is_spare or (report.entered and leaving)

    def explain(self, memory_limit: int | None) -> str:
        """Return one sentence. ``memory_limit`` is in MiB."""
        return describe_end(
            self.report,
            self._ended,
            killed=self.kill_reason,
            leaving=self.reason,
            memory_limit=memory_limit,
        )


def _is_of_a_kill(report: Report) -> bool:
    """Return whether a report says no more than that the worker was killed from outside."""
    return report.signal == "SIGKILL" and not (report.oom or report.killed or report.exit_began)


def may_have_begun(container: Container, slot: Slot, call: int) -> bool:
    """Return whether the worker may have begun an input, as far as is known after the exit.

    ``call`` is the input's id: the last one sent to ``slot``, and not answered.
    """
    if container.state is State.EXITING:
        return False  # every input that began has ended and was answered
    report = container.cause.report
    if report is not None:
        if report.in_order:
            return False  # it would have answered
        if report.oom:
            return True  # perhaps because of the arguments; another container has no more memory
    return container.connections.may_have_begun(slot, call)


def clear_run_folder(engine: Engine, container: str, run_dir: Path) -> None:
    """Have the engine remove what root made in a container's run folder, if it can."""
    with contextlib.suppress(EngineError):  # the folder stays, with what root made in it
        engine.clear_run_folder(container, run_dir)
