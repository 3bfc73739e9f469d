"""The report of a container's end, which the supervisor leaves in the run folder."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any

from lifecycle_magic.guest import files, memory, signals

KEPT = "/.lifecycle-report.json"
"""Where a report stays in a container that could not send it, for its run folder is in memory."""

MAX_HOOKS = 200
"""Exit hooks that are reported. A class has far fewer."""

MAX_ERROR_CHARS = 1 << 16
"""Characters of each exit hook's traceback that are reported."""


class EndReport:
    """The facts about one container's run, collected for the report at its end."""

    def __init__(self, container: str) -> None:
        self.entered = False
        self.enter_error = ""  # the type and message of the error that `enter` raised
        self.done = False  # whether the worker ran to its end
        self.killed: str | None = None  # why the supervisor killed the worker
        self.exit_began: float | None = None  # seconds since the epoch
        self._container = container
        self._began = time.time()
        self._hooks: list[dict[str, Any]] = []
        self._oom_kills = memory.count_oom_kills()

    def add_hook(self, hook: object, seconds: float, error: object) -> None:
        """Add the run of an exit hook. Raises TypeError if its description is not valid."""
        if not isinstance(hook, str) or not isinstance(error, (str, type(None))):
            raise TypeError("the report of an exit hook is not valid")
        if len(self._hooks) < MAX_HOOKS:
            cut = error[-MAX_ERROR_CHARS:] if error else error
            self._hooks.append({"hook": hook, "seconds": seconds, "error": cut})

    def finish(self, status: int, why: str, tail: str) -> dict[str, Any]:
        """Return the report of a worker that exited with this wait status.

        ``why`` is the reason for which the container stopped, ``tail`` the end of its log.
        """
        killed_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        orderly = self.done and status == 0
        failed = [one for one in self._hooks if one["error"]]
        return {
            "container": self._container,
            "orderly": orderly,
            "entered": self.entered,
            "why": why or (self._enter_failed() if orderly else "the worker died"),
            "killed": self.killed,
            "exit_code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            "signal": signals.name(killed_by) if killed_by else None,
            "oom": killed_by == signal.SIGKILL
            and not self.killed
            and memory.count_oom_kills() > self._oom_kills,
            "memory_limit": memory.limit_mib(),
            "hooks": self._hooks,
            "failed_hooks": len(failed),
            "began": self._began,
            "exit_began": self.exit_began,
            "ended": time.time(),
            "tail": tail,
            "shm_size": memory.shm_size_mib() if killed_by == signal.SIGBUS else 0,
        }

    def _enter_failed(self) -> str:
        return f"enter failed: {self.enter_error}" if self.enter_error else "enter failed"


def write(run: str, report: dict[str, Any]) -> None:
    """Write ``report.json`` into the run folder ``run``, whole or not at all. Raises nothing."""
    with contextlib.suppress(OSError):  # a full disk, or the folder has been removed
        files.write_json(os.path.join(run, "report.json"), report)


def write_start_failure(run: str, container: str, why: str) -> None:
    """Write the report of a container whose worker could not be started."""
    report = {
        "container": container,
        "orderly": False,
        "entered": False,
        "why": why,
        "ended": time.time(),
    }
    write(run, report)
