"""The progress bar of ``tqdm.notebook`` and ``tqdm.auto``, shown in the cell that calls a method.

tqdm makes them from widgets, which a container has no connection for. These are displays that are
updated in place instead.
"""

from __future__ import annotations

import html
import importlib
import os
import re
import sys
import types
from typing import Any

from lifecycle_magic.guest import print_buffer
from lifecycle_magic.guest.rich_output import publish_display_data

__all__ = ["replace_automatic_bars", "replace_bars"]

_COLOURS = {
    "": "var(--jp-brand-color1, var(--vscode-focusBorder, #1976d2))",
    "success": "var(--jp-success-color1, var(--vscode-testing-iconPassed, #388e3c))",
    "danger": "var(--jp-error-color1, var(--vscode-errorForeground, #d32f2f))",
}
_FONT = "var(--jp-ui-font-family, var(--vscode-font-family, sans-serif))"


def replace_bars(module: types.ModuleType) -> None:
    """Change the class in ``tqdm.notebook``, in a container of a notebook."""
    if _is_for_notebook():
        bar = _class(module.std_tqdm)
        module.tqdm_notebook = module.tqdm = bar  # type: ignore[attr-defined]


def replace_automatic_bars(module: types.ModuleType) -> None:
    """Let ``tqdm.autonotebook`` choose the bar of a notebook, and with it ``tqdm.auto``."""
    if _is_for_notebook():
        notebook = importlib.import_module("tqdm.notebook")
        module.tqdm, module.trange = notebook.tqdm, notebook.trange  # type: ignore[attr-defined]


def _is_for_notebook() -> bool:
    prints = print_buffer.of_worker
    return prints is not None and prints.is_for_notebook


def _class(plain: Any) -> type:
    """Return the class of bars that extends tqdm's own, ``plain``."""

    class tqdm_notebook(plain):  # type: ignore[misc]
        """A progress bar in a notebook's cell, with the arguments of ``tqdm.notebook.tqdm``."""

        def __init__(self, *args: Any, display: bool = True, **kwargs: Any) -> None:
            self._id = os.urandom(16).hex()
            self._is_shown = False
            self._kind = ""
            if kwargs.get("file") in (None, sys.stderr):
                kwargs["file"] = sys.stdout  # of ``tqdm.write``
            kwargs["gui"] = True  # print nothing
            kwargs["disable"] = bool(kwargs.get("disable", False))
            super().__init__(*args, **kwargs)
            if not self.disable and display and not getattr(self, "delay", 0):
                self.display()

        def display(self, msg: str | None = None, pos: int | None = None, **_: Any) -> None:
            """Show the bar, or show it again as it is now."""
            data = {"text/html": self._html()}
            if self._kind:  # the log gets one line
                data["text/plain"] = self.format_meter(**{**self.format_dict, "colour": None})
            self._publish(data)

        def close(self) -> None:
            """Show the bar as ended, in red if that was early; with ``leave=False`` no longer."""
            if self.disable:
                return
            super().close()
            self._kind = "danger" if self.total and self.n < self.total else "success"
            if self._kind == "danger" or self.leave:
                self.display()
            elif self._is_shown:
                self._publish({"text/html": "", "text/plain": ""})

        def clear(self, *args: Any, **kwargs: Any) -> None:
            """Do nothing: what ``tqdm.write`` prints comes below the bar."""

        def reset(self, total: float | None = None) -> None:
            """Count from 0 again."""
            self._kind = ""
            super().reset(total=total)

        def _publish(self, data: dict[str, Any]) -> None:
            publish_display_data(data, transient={"display_id": self._id}, update=self._is_shown)
            self._is_shown = True

        def _html(self) -> str:
            facts = self.format_dict
            form = facts["bar_format"] or "{l_bar}<bar/>{r_bar}"
            text = self.format_meter(**{**facts, "bar_format": form.replace("{bar}", "<bar/>")})
            before, _, after = text.partition("<bar/>") if "<bar/>" in text else ("", "", text)
            parts = [_words(before.removesuffix("|")), _words(after.removeprefix("|"))]
            if self.total:
                parts.insert(1, _bar(min(1.0, self.n / self.total), self._colour()))
            style = f"display: flex; align-items: center; gap: 6px; font: 13px {_FONT}"
            return f"<div style='{style}'>{''.join(parts)}</div>"

        def _colour(self) -> str:
            own = str(getattr(self, "colour", None) or "")
            return own if re.fullmatch(r"#?\w+", own) else _COLOURS[self._kind]

    tqdm_notebook.__module__ = "tqdm.notebook"  # where a pickle finds it on both sides
    tqdm_notebook.__qualname__ = "tqdm_notebook"
    return tqdm_notebook


def _words(text: str) -> str:
    return f"<span style='white-space: pre'>{html.escape(text)}</span>"


def _bar(part: float, colour: str) -> str:
    inner = f"<div style='width: {100 * part:.1f}%; height: 100%; background: {colour}'></div>"
    style = "width: 300px; height: 16px; background: rgba(128, 128, 128, 0.2)"
    return f"<div style='{style}'>{inner}</div>"
