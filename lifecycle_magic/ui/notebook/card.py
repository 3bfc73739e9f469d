"""The card of a cell: the progress of its deployment, then the result.

In a notebook, a card is one output that is updated in place and stays in the saved file, as HTML
and as text. In a terminal, a card is lines of text. Events come from any thread, so every update
runs in a copy of the context in which the card was made: ipykernel finds the cell of an output by
that context.
"""

from __future__ import annotations

import contextvars
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Protocol

from lifecycle_magic.lifecycle.states import Event, with_class
from lifecycle_magic.services.deployment_changes import Change, headline
from lifecycle_magic.ui.deployment import (
    Address,
    DeploymentProgress,
    DeploymentView,
    StepRow,
)
from lifecycle_magic.ui.panel.text import escape, plain, seconds

if TYPE_CHECKING:
    from lifecycle_magic.exception import InvalidError
    from lifecycle_magic.services.service import Service
    from lifecycle_magic.spec.class_spec import ClassSpec
    from lifecycle_magic.ui.notebook.options_line import Request
    from lifecycle_magic.web.site import ServedAddress

__all__ = ["Card", "NotebookOutput", "Sink", "TerminalOutput", "as_html", "as_text"]

OUTPUT_INTERVAL_SECONDS = 0.125
"""Least time between updates for another line of a step's output alone."""

_MARKS = {"running": "…", "cached": "=", "done": "✓", "failed": "✗", "note": "·"}


class Sink(Protocol):
    """The place where a card is shown. The last call of `show` has ``final=True``."""

    def show(self, view: DeploymentView, *, final: bool = False) -> None:
        """Show the view instead of the previous one."""


class Card:
    """A context manager that shows a class's deployment, and the exception that ended it."""

    def __init__(self, spec: ClassSpec, service: Service, sink: Sink) -> None:
        self._session = service.session
        self._spec = spec
        self._service = service
        self._sink = sink
        self._progress = DeploymentProgress(
            spec.name, time.time(), enter=spec.enter, exit=spec.exit, service=service.key
        )
        self._lock = threading.Lock()
        self._context = contextvars.copy_context()
        self._view: DeploymentView | None = None  # the view that was shown last
        self._shown = 0.0  # the time of that, by time.monotonic
        self._due = False
        self._over = False
        self._unsubscribe: Callable[[], None] = lambda: None

    def __enter__(self) -> Card:
        with self._lock:
            self._draw()
        self._unsubscribe = self._session.bus.subscribe(self._take)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._unsubscribe()
        with self._lock:
            self._over = True
            self._progress.set_engine(self._service.engine)
            if error is not None:
                self._progress.set_headline(_first_line(error, self._spec.name))
                for text in getattr(error, "__notes__", ()):
                    self._progress.add_note(text)
            self._progress.end(time.time(), error)
            self._draw(final=True)

    # --- what only the cell knows ----------------------------------------------------------

    def report_deployed(self, change: Change, old: ClassSpec | None, request: Request) -> None:
        """Report that the class was deployed; a container may still have to start."""
        asked = "--rebuild" if request.rebuild else "--fresh" if request.fresh else ""
        with self._lock:
            around = self._service.external_changes
            self._progress.set_headline(headline(change, old, self._spec, why=asked, around=around))

    def report_lazy(self) -> None:
        """Report that nothing was started, because of ``--lazy``."""
        with self._lock:
            self._progress.set_headline(
                "declared: the first call builds the image and starts a container"
            )

    def report_arguments_needed(self) -> None:
        """Report that nothing was started, because the class needs arguments."""
        with self._lock:
            self._progress.add_note(
                f"{self._spec.name}(...) takes arguments, so its container starts at the first call"
            )

    def report_addresses(self, served: Sequence[ServedAddress]) -> None:
        """Report the addresses of the methods that answer HTTP."""
        name = f"{self._spec.name}."
        found = tuple(Address(one.where.removeprefix(name), one.url, one.link) for one in served)
        with self._lock:
            self._progress.set_addresses(found)
            for warning in filter(None, (one.warning for one in served)):
                self._progress.add_note(warning)

    def report_unserved(self, error: InvalidError) -> None:
        """Report that the class runs, but its methods that answer HTTP have no address."""
        with self._lock:
            self._progress.add_note(str(error))

    def add_note(self, text: str) -> None:
        """Add a line to a finished card."""
        with self._lock:
            self._progress.add_note(text)
            self._draw(final=True)

    # --- events ------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        with self._lock:
            urgent = self._progress.take(event)
            if self._over:
                return
            wait = self._shown + OUTPUT_INTERVAL_SECONDS - time.monotonic()
            if urgent or wait <= 0:
                self._draw()
            elif not self._due:
                self._due = True
                self._session.event_loop.call_later(wait, self._catch_up)

    def _catch_up(self) -> None:
        """Show the last line of a burst, for which no later event would cause an update."""
        with self._lock:
            self._due = False
            if not self._over:
                self._draw()

    def _draw(self, *, final: bool = False) -> None:
        self._shown = time.monotonic()
        view = self._progress.view()
        if view == self._view:
            return
        self._view = view
        # A context can't be entered twice, and the cell's own thread may be in it.
        self._context.copy().run(self._sink.show, view, final=final)


def _first_line(error: BaseException, name: str) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    kind = type(error).__name__
    text = str(error).strip().removeprefix(f"{name}: ")
    return f"{kind}: {text.splitlines()[0]}" if text else kind


# --- outputs ---------------------------------------------------------------------------


class NotebookOutput:
    """A card as one output of a Jupyter cell, updated in place by its display id."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, view: DeploymentView, *, final: bool = False) -> None:
        """Display the first view; update it with every later view."""
        bundle = {"text/plain": as_text(view), "text/html": as_html(view)}
        if self._handle is None:
            from IPython.display import display

            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True)


class TerminalOutput:
    """A card as lines of a terminal or file; on a terminal the running step is one live line."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._printed: set[int] = set()
        self._notices = 0
        self._live = False

    def show(self, view: DeploymentView, *, final: bool = False) -> None:
        """Print the steps that ended since the last view."""
        try:
            self._wipe()
            for index, row in enumerate(view.rows):
                if row.status != "running" and index not in self._printed:
                    self._printed.add(index)
                    self._line(f"{view.name}: {_row(row)}")
            if final:
                for address in view.addresses:
                    self._line(f"{view.name}: {_answers(address)}")
            for text in view.notices[self._notices :]:
                self._line(with_class(view.name, plain(text)))
            self._notices = len(view.notices)
            if final:
                for text in view.tail:
                    self._line(f"    {plain(text)}")
                self._line(_head(view))
            elif self._stream.isatty():
                running = next(
                    (row for row in reversed(view.rows) if row.status == "running"), None
                )
                if running is not None:
                    self._live = True
                    self._stream.write(_cut(f"{view.name}: {_row(running)}"))
            self._stream.flush()
        except (OSError, ValueError):
            pass  # the stream is closed

    def _line(self, text: str) -> None:
        self._stream.write(text + "\n")

    def _wipe(self) -> None:
        if self._live:
            self._live = False
            self._stream.write("\r\x1b[K")


def _cut(text: str) -> str:
    width = max(20, shutil.get_terminal_size().columns - 1)
    return text if len(text) <= width else text[: width - 1] + "…"


# --- rendering --------------------------------------------------------------------------------


def _head(view: DeploymentView) -> str:
    facts = [plain(view.engine)] if view.engine else []
    if view.seconds is not None:
        facts.append(seconds(view.seconds))
    details = f" ({', '.join(facts)})" if facts else ""
    return f"{_MARKS[view.status]} {plain(view.name)}: {plain(view.headline)}{details}"


def _took(row: StepRow) -> str:
    if row.status == "cached":
        return "cached"
    return "" if row.seconds is None else seconds(row.seconds)


def _title(row: StepRow) -> str:
    return " ".join(plain(row.title).split())


def _row(row: StepRow) -> str:
    title = f"{_MARKS[row.status]} {_title(row)}"
    took = _took(row)
    detail = plain(row.detail).strip()
    return title + (f"  {took}" if took else "") + (f"  {detail}" if detail else "")


def as_text(view: DeploymentView) -> str:
    """Return the card as lines of plain text."""
    lines = [_head(view)]
    lines += [f"  {_row(row)}" for row in view.rows]
    lines += [f"    {plain(line)}" for line in view.tail]
    lines += [f"  {_answers(address)}" for address in view.addresses]
    lines += [f"  {line}" for text in view.notices for line in plain(text).splitlines()]
    return "\n".join(lines)


def as_html(view: DeploymentView) -> str:
    """Return the card as HTML, with every string escaped; it is readable without its style."""
    rows = "".join(_html_row(row) for row in view.rows)
    parts = [f"<div class='lm-head'><b>{escape(_head(view))}</b></div>"]
    if rows:
        parts.append(f"<table class='lm-steps'>{rows}</table>")
    if view.tail:
        parts.append(f"<pre class='lm-tail'>{escape(chr(10).join(view.tail))}</pre>")
    parts += [_html_address(address) for address in view.addresses]
    parts += [f"<div class='lm-note'>{escape(text)}</div>" for text in view.notices]
    return f"<div class='lm-card lm-{view.status}'>{_STYLE}{''.join(parts)}</div>"


def _answers(address: Address) -> str:
    there = f", from your browser at {address.link}" if address.link != address.url else ""
    return plain(f"{address.method} answers at {address.url}{there}")


def _html_address(address: Address) -> str:
    link, url = escape(address.link), escape(address.url)
    here = f" ({url} on this machine)" if address.link != address.url else ""
    to = f"<a href='{link}' target='_blank' rel='noopener'>{link}</a>"
    return f"<div class='lm-web'>{escape(address.method)} answers at {to}{here}</div>"


def _html_row(row: StepRow) -> str:
    cells = (_MARKS[row.status], _title(row), _took(row), row.detail.strip())
    inner = "".join(f"<td>{escape(text)}</td>" for text in cells)
    return f"<tr class='lm-{row.status}'>{inner}</tr>"


# JupyterLab's variables, then VS Code's, then a colour readable on light and dark backgrounds.
_STYLE = """<style>
.lm-card { border-left: 3px solid var(--lm-mark); padding: 2px 0 2px 10px; margin: 2px 0;
  --lm-mark: var(--jp-brand-color1, var(--vscode-focusBorder, #1976d2));
  --lm-dim: var(--jp-ui-font-color2, var(--vscode-descriptionForeground, #808080));
  --lm-bad: var(--jp-error-color1, var(--vscode-errorForeground, #d32f2f));
  --lm-good: var(--jp-success-color1, var(--vscode-testing-iconPassed, #388e3c));
  color: var(--jp-ui-font-color1, var(--vscode-foreground, inherit)); background: transparent;
  font-family: var(--jp-ui-font-family, var(--vscode-font-family, sans-serif)); font-size: 13px; }
.lm-card.lm-failed { --lm-mark: var(--lm-bad); }
.lm-card.lm-done { --lm-mark: var(--lm-good); }
.lm-card table.lm-steps { border: 0; border-collapse: collapse; margin: 2px 0; background: none;
  color: inherit; font: inherit; }
.lm-card table.lm-steps tr { background: none; }
.lm-card table.lm-steps td { border: 0; padding: 0 10px 0 0; text-align: left; color: inherit;
  white-space: pre-wrap; overflow-wrap: anywhere; vertical-align: top; }
.lm-card table.lm-steps td:nth-child(n + 3), .lm-card .lm-note { color: var(--lm-dim); }
.lm-card table.lm-steps td:nth-child(3) { white-space: nowrap; text-align: right; }
.lm-card table.lm-steps tr.lm-failed td { color: var(--lm-bad); }
.lm-card .lm-note { white-space: pre-wrap; }
.lm-card pre.lm-tail { margin: 4px 0; padding: 4px 8px; max-height: 24em; overflow: auto;
  font-family: var(--jp-code-font-family, monospace); font-size: 12px; white-space: pre-wrap;
  color: inherit; background: var(--jp-layout-color2, rgba(128, 128, 128, 0.12)); }
</style>"""
