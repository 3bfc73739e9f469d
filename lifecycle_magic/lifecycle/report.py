"""The end of a container: its supervisor's report, and one sentence from the best source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle_magic.guest import signals
from lifecycle_magic.host import checked_json, process_limit, run_files

if TYPE_CHECKING:
    from lifecycle_magic.engines.base import Ended


@dataclass(frozen=True)
class ExitHook:
    """One run of an ``exit`` hook. ``error`` is its traceback as a string, None if it succeeded."""

    hook: str
    seconds: float
    error: str | None

    @classmethod
    def read(cls, content: Any) -> ExitHook:
        """Return the hook's run in decoded JSON. Raises `ValueError` if it is invalid."""
        if not isinstance(content, dict) or content.keys() != {"hook", "seconds", "error"}:
            raise ValueError("a hook's run that is invalid")
        return cls(
            checked_json.string("hook", content["hook"]),
            checked_json.number("seconds", content["seconds"]),
            checked_json.string_or_none("error", content["error"]),
        )


@dataclass(frozen=True)
class Report:
    """The content of ``report.json``.

    Times are seconds since the epoch, None for what did not happen.
    """

    container: str
    orderly: bool  # the worker finished all its steps, whether or not hooks raised
    entered: bool
    why: str
    killed: str | None = None
    exit_code: int | None = None
    signal: str | None = None
    oom: bool = False
    memory_limit: int | None = None  # MiB, of the cgroup that contained the processes
    hooks: tuple[ExitHook, ...] = field(default=())
    began: float = 0.0
    exit_began: float | None = None
    ended: float = 0.0
    tail: str = ""
    shm_size: int = 0  # of /dev/shm, in MiB

    @classmethod
    def read(cls, content: Any) -> Report:
        """Return the report in JSON that code in a container can write.

        Raises `ValueError` if it is invalid.
        """
        if not isinstance(content, dict):
            raise ValueError("a report that is no JSON object")
        hooks = content.get("hooks", [])
        if not isinstance(hooks, list):
            raise ValueError("a report whose hooks are no list")
        known = {
            name: read(name, content[name]) for name, read in _FIELDS.items() if name in content
        }
        known["hooks"] = tuple(ExitHook.read(hook) for hook in hooks[:_MAX_HOOKS])
        try:
            return cls(**known)
        except TypeError as error:
            raise ValueError(f"a report that lacks something: {error}") from None

    @classmethod
    def from_run_folder(cls, run_dir: Path) -> Report | None:
        """Return the report in a run folder, None if it is missing or invalid."""
        try:
            content = run_files.read_object(run_dir / "report.json")
            return cls.read({**content, "container": run_dir.name})
        except (OSError, ValueError):
            return None

    @property
    def in_order(self) -> bool:
        """Return whether the container exited by itself and in time."""
        return self.orderly and not self.killed

    @property
    def failed_hooks(self) -> tuple[ExitHook, ...]:
        return tuple(hook for hook in self.hooks if hook.error)

    def summary(self, memory: int | None = None) -> str:
        """Return what happened in one sentence. ``memory`` is the class's own limit, in MiB."""
        if self.oom:
            return _out_of_memory(memory, self.memory_limit)
        if self.killed:
            return f"it was killed: {self.killed}"
        if self.signal:
            number = signals.number(self.signal)
            code = f" (exit code {128 + number})" if number is not None else ""
            shm = _full_shm(self.shm_size) if self.signal == "SIGBUS" else ""
            return f"its worker died of {self.signal}{code}{shm}"
        if not self.orderly and self.exit_code is None:
            return process_limit.explain(self.why) or self.why
        if not self.orderly:
            return f"its worker ended with exit code {self.exit_code}"
        if self.failed_hooks:
            names = ", ".join(hook.hook for hook in self.failed_hooks)
            return f"{self.why}; exit hook {names} raised"
        return self.why


_MAX_HOOKS = 1000

_FIELDS: dict[str, Callable[[str, Any], Any]] = {
    "container": checked_json.string,
    "orderly": checked_json.flag,
    "entered": checked_json.flag,
    "why": checked_json.string,
    "killed": checked_json.string_or_none,
    "exit_code": checked_json.integer_or_none,
    "signal": checked_json.string_or_none,
    "oom": checked_json.flag,
    "memory_limit": checked_json.integer_or_none,
    "began": checked_json.number,
    "exit_began": checked_json.number_or_none,
    "ended": checked_json.number,
    "tail": checked_json.string,
    "shm_size": checked_json.integer,
}
"""The reader of each field of a report, except the hooks."""


def describe_end(
    report: Report | None,
    ended: Ended | None,
    *,
    killed: str,
    leaving: str,
    memory_limit: int | None,
) -> str:
    """Return one sentence that says why a container exited.

    The sources in order: the supervisor's report, ``killed`` if this process killed the container,
    then the engine. ``leaving`` is why the container was already draining or exiting, if it was;
    ``memory_limit`` is in MiB.
    """
    if report is not None:
        return report.summary(memory_limit)
    if killed:
        return killed
    if ended is not None and ended.oom:
        return _out_of_memory(memory_limit, None)
    how = "it was killed from outside"
    how += ", or its engine stopped" if ended is None else ""
    if ended is not None and ended.exit_code is not None:
        how += f" (exit code {ended.exit_code})"
    return f"{how}, while it was stopping ({leaving})" if leaving else how


def _out_of_memory(own: int | None, around: int | None) -> str:
    """Return the out-of-memory sentence.

    ``own`` is the limit set by memory=, ``around`` the limit of the surrounding cgroup, both in
    MiB.
    """
    if own:
        return (
            f"it ran out of memory and was killed (limit of {own} MiB); give it more with memory="
        )
    killed = "it ran out of memory and was killed"
    if around:
        return (
            f"{killed}: the container around this kernel has {around} MiB in all. "
            "Fix: give that one more (docker run --memory=), or load less here"
        )
    return (
        f"{killed}: this machine has no more. "
        "Fix: load less, or run fewer containers (max_containers=)"
    )


def _full_shm(size: int) -> str:
    return (
        ": memory that it had mapped could not be written. The usual cause is a full /dev/shm, "
        f"which held {size} MiB. Fix: set shm_size={max(1024, 4 * size)} (MiB) on the class"
    )
