"""The progress of a map as one output of a notebook, updated in place and kept at the end.

It is no text on standard error, which notebooks paint as an error, and no widget, whose state would
be saved with the notebook.
"""

from __future__ import annotations

import contextvars
import html
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lifecycle_magic.lifecycle.states import State

if TYPE_CHECKING:
    from lifecycle_magic.pool.pool import Pool
    from lifecycle_magic.threads.event_loop import Timer

__all__ = ["ProgressOutput", "ProgressView", "as_html", "as_text"]

DELAY_SECONDS = 0.5
"""A map that takes less than this shows nothing."""
INTERVAL_SECONDS = 0.25
"""Seconds between two updates."""

_STARTING = (State.BUILDING, State.STARTING, State.ENTERING)
_RUNNING = (State.IDLE, State.BUSY)


@dataclass(frozen=True)
class ProgressView:
    """The shown progress: numbers of inputs, times in seconds, numbers of containers.

    ``total`` is None if the map does not know it. ``working`` are the seconds since the first
    container was there. ``ending`` is empty while the map runs; "done" afterwards, or what ended
    it.
    """

    where: str
    total: int | None
    done: int = 0
    failed: int = 0
    elapsed: float = 0.0
    working: float = 0.0
    running: int = 0
    starting: int = 0
    ending: str = ""

    @property
    def rate(self) -> float:
        """Results per second; 0 if that is not known yet."""
        return self.done / self.working if self.working else 0.0

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take at this rate, or None."""
        if self.total is None or not self.rate:
            return None
        return (self.total - self.done) / self.rate

    @property
    def outcome(self) -> str:
        """The end of the map; a loop that was left after its last result is done.

        ``zip`` and ``islice`` leave a loop there: they ask for nothing after the last one.
        """
        return "done" if self.ending == "left" and self.done == self.total else self.ending


class ProgressOutput:
    """The output of one map, as a context manager that returns the function for each result."""

    def __init__(self, where: str, total: float, pool: Pool, *, counts_errors: bool) -> None:
        self._where = where
        self._total = None if math.isinf(total) else int(total)
        self._pool = pool
        self._counts_errors = counts_errors
        self._done = 0
        self._failed = 0
        self._begun = time.monotonic()
        self._working_since: float | None = None
        # ipykernel finds the cell of an output by the context.
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()  # the end against the timer, which runs on another thread
        self._timer: Timer | None = None
        self._handle: Any = None

    def __enter__(self) -> Callable[[Any], None]:
        self._timer = self._pool.event_loop.call_later(DELAY_SECONDS, self._tick)
        return self._count_all if self._counts_errors else self._count

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        with self._lock:
            timer, self._timer = self._timer, None
            if timer is not None:
                timer.cancel()
            if self._handle is not None or time.monotonic() - self._begun >= DELAY_SECONDS:
                self._show(_ending(kind))

    def _count(self, result: Any) -> None:
        self._done += 1

    def _count_all(self, result: Any) -> None:
        self._done += 1
        if isinstance(result, BaseException):
            self._failed += 1

    def _tick(self) -> None:
        with self._lock:
            if self._timer is None:
                return
            self._show("")
            self._timer = self._pool.event_loop.call_later(INTERVAL_SECONDS, self._tick)

    def _show(self, ending: str) -> None:
        view = self._view(ending)
        bundle = {"text/plain": as_text(view), "text/html": as_html(view)}
        # A context can't be entered twice, and the cell's own thread may be in it.
        self._context.copy().run(self._display, bundle)

    def _display(self, bundle: dict[str, str]) -> None:
        if self._handle is None:
            from IPython.display import display

            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True)

    def _view(self, ending: str) -> ProgressView:
        now = time.monotonic()
        states = [container.state for container in list(self._pool.containers)]
        running = sum(state in _RUNNING for state in states)
        if self._working_since is None and (running or self._done):
            self._working_since = now if now - self._begun > 2 * DELAY_SECONDS else self._begun
        return ProgressView(
            self._where,
            self._total,
            self._done,
            self._failed,
            now - self._begun,
            now - self._working_since if self._working_since is not None else 0.0,
            running,
            sum(state in _STARTING for state in states),
            ending,
        )


def _ending(kind: type[BaseException] | None) -> str:
    if kind is None:
        return "done"
    if issubclass(kind, GeneratorExit):
        return "left"
    return "interrupted" if issubclass(kind, KeyboardInterrupt) else kind.__name__


def as_text(view: ProgressView) -> str:
    """Return the view as one line of text.

    >>> print(as_text(ProgressView("Model.go", 100, 20, 1, 4.0, 2.0, running=2)))
    Model.go: 20 of 100, 1 failed, 10/s, 8 s left, 2 containers
    """
    return f"{view.where}: {', '.join(_facts(view))}"


def as_html(view: ProgressView) -> str:
    """Return the view as HTML: a bar and the same line."""
    facts = "".join(f"<span>{html.escape(fact)}</span>" for fact in _facts(view))
    bar = ""
    if not view.ending and view.total != 0:
        value = "" if view.total is None else f" value='{view.done}' max='{view.total}'"
        bar = f"<progress{value}></progress>"
    kind = view.outcome if view.outcome in ("", "done", "left") else "failed"
    title = f"<b>{html.escape(view.where)}</b>"
    return f"<div class='lm-map lm-{kind or 'running'}'>{_STYLE}{title}{bar}{facts}</div>"


def _facts(view: ProgressView) -> list[str]:
    total = f" of {view.total:,}" if view.total is not None else ""
    facts = [f"{view.done:,}{total}"]
    if view.failed:
        facts.append(f"{view.failed:,} failed")
    if view.rate:
        facts.append(f"{view.rate:,.3g}/s" if view.rate < 100 else f"{view.rate:,.0f}/s")
    if view.ending:
        facts.append(f"{'in' if view.outcome == 'done' else 'after'} {_seconds(view.elapsed)}")
        if view.outcome != "done":
            facts.append(_ENDINGS.get(view.ending, f"ended by {view.ending}"))
        return facts
    if view.left is not None:
        facts.append(f"{_seconds(view.left)} left")
    if view.running:
        facts.append(f"{view.running} container{'s' if view.running > 1 else ''}")
    if view.starting:
        facts.append(f"{view.starting} starting")
    return facts


_ENDINGS = {"left": "the loop was left", "interrupted": "interrupted"}


def _seconds(value: float) -> str:
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 59.5:
        return f"{value:.1f} s" if value < 9.95 and round(value, 1) % 1 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


# JupyterLab's variables, then VS Code's, then a colour readable on light and dark backgrounds.
_STYLE = """<style>
.lm-map { --lm-mark: var(--jp-brand-color1, var(--vscode-focusBorder, #1976d2));
  border-left: 3px solid var(--lm-mark); padding: 2px 0 2px 10px; margin: 2px 0;
  display: flex; flex-wrap: wrap; gap: 2px 14px; align-items: center; background: transparent;
  color: var(--jp-ui-font-color1, var(--vscode-foreground, inherit)); font-size: 13px;
  font-family: var(--jp-ui-font-family, var(--vscode-font-family, sans-serif));
  font-variant-numeric: tabular-nums; }
.lm-map.lm-failed { --lm-mark: var(--jp-error-color1, var(--vscode-errorForeground, #d32f2f)); }
.lm-map.lm-done { --lm-mark: var(--jp-success-color1, var(--vscode-testing-iconPassed, #388e3c)); }
.lm-map progress { width: 12em; accent-color: var(--lm-mark); }
</style>"""
