"""How a container ended: its supervisor's report, and one sentence from whoever knows best."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifecycle_magic.engines.base import Ended


@dataclass(frozen=True)
class ExitHook:
    """One ``exit`` hook's run; ``error`` is its traceback as text, None if it went well."""

    hook: str
    seconds: float
    error: str | None


@dataclass(frozen=True)
class Report:
    """The content of ``report.json``. Times are seconds since the epoch, None for what did not
    happen.
    """

    container: str
    orderly: bool  # the worker went the whole way, whether or not hooks raised
    entered: bool
    why: str
    killed: str | None = None
    exit_code: int | None = None
    signal: str | None = None
    oom: bool = False
    hooks: tuple[ExitHook, ...] = field(default=())
    began: float = 0.0
    exit_began: float | None = None
    ended: float = 0.0
    tail: str = ""

    @classmethod
    def read(cls, told: dict[str, Any]) -> Report:
        """From JSON. Raises TypeError or KeyError when it is no report."""
        known = {name: told[name] for name in cls.__dataclass_fields__ if name in told}
        known["hooks"] = tuple(ExitHook(**hook) for hook in told.get("hooks", ()))
        return cls(**known)

    @classmethod
    def left_in(cls, run_dir: Path) -> Report | None:
        """What a supervisor left in its run folder; None if that is nothing that makes sense."""
        try:
            return cls.read(json.loads((run_dir / "report.json").read_text()))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    @property
    def in_order(self) -> bool:
        """Whether it went by itself and in its time."""
        return self.orderly and not self.killed

    @property
    def failed_hooks(self) -> tuple[ExitHook, ...]:
        return tuple(hook for hook in self.hooks if hook.error)

    def told(self, memory_limit: int | None = None) -> str:
        """What happened, in one sentence. ``memory_limit`` is in MiB."""
        if self.oom:
            return _out_of_memory(memory_limit)
        if self.killed:
            return f"it was killed: {self.killed}"
        if self.signal:
            return f"its worker died of {self.signal} (exit code {128 + _number(self.signal)})"
        if not self.orderly:
            return f"its worker ended with exit code {self.exit_code}"
        if self.failed_hooks:
            names = ", ".join(hook.hook for hook in self.failed_hooks)
            return f"{self.why}; exit hook {names} raised"
        return self.why


def obituary(
    report: Report | None,
    ended: Ended | None,
    *,
    killed: str,
    leaving: str,
    memory_limit: int | None,
) -> str:
    """Why a container is gone, in one sentence.

    Its supervisor knows best, then we, if we ``killed`` it, then the engine. ``leaving`` is why it
    was on its way out before, if it was; ``memory_limit`` is in MiB.
    """
    if report is not None:
        return report.told(memory_limit)
    if killed:
        return killed
    if ended is not None and ended.oom:
        return _out_of_memory(memory_limit)
    how = "it was killed from outside"
    how += ", or its engine went away" if ended is None else ""
    if ended is not None and ended.exit_code is not None:
        how += f" (exit code {ended.exit_code})"
    return f"{how}, while it was going ({leaving})" if leaving else how


def _out_of_memory(limit: int | None) -> str:
    of = f" of {limit} MiB" if limit else ""
    return f"it ran out of memory and was killed (limit{of}); give it more with memory="


def _number(name: str) -> int:
    import signal

    return int(signal.Signals[name])
