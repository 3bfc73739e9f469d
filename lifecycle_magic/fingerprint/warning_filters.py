"""The filters of `warnings` that the notebook or script has set.

IPython and libraries set filters too, the latter when they are imported, at any time. Only filters
that came while a cell ran whose text sets filters count as the notebook's.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import linecache
import re
import sys
import warnings

from lifecycle_magic.wire.warning_filters import Raw

__all__ = ["content", "filters", "take_note"]

_SETS = re.compile(r"\b(?:filterwarnings|simplefilter|resetwarnings)\b|\bwarnings\.filters\b")


class _Notebook:
    """What is known of the filters so far, up to a cell."""

    def __init__(self) -> None:
        self.cells = 0
        self.is_setting = False
        self.known: set[Raw] = set()
        self.of_others: set[Raw] = set()

    def read(self, cells: list[str]) -> None:
        """Take note of the filters that came with the cells that ran since the last time."""
        # A cell that is read again has declared a class meanwhile, for which libraries may have
        # been imported: what it sets after the class counts.
        ran = cells[self.cells :] or [_after_classes(cells[-1])]
        fresh = set(warnings.filters) - self.known
        if any(map(_SETS.search, ran)):
            self.is_setting = True
        else:
            self.of_others |= fresh
        self.known |= fresh
        self.cells = len(cells)


def _after_classes(text: str) -> str:
    """Return the top-level lines of a cell below its last class.

    ``In`` has a cell with a magic as a call that has the cell's text as its last argument.
    """
    if text.startswith("get_ipython().run_cell_magic("):
        with contextlib.suppress(SyntaxError, ValueError, AttributeError):
            text = ast.literal_eval(ast.parse(text).body[0].value.args[-1])  # type: ignore[attr-defined]
    below = f"\n{text}".rpartition("\nclass ")[2]
    return "\n".join(line for line in below.splitlines() if line[:1].strip())


_notebook = _Notebook()


def take_note() -> None:
    """Take note of the filters that the running cell and libraries have set so far."""
    cells = vars(sys.modules["__main__"]).get("In")
    if isinstance(cells, list) and cells:
        _notebook.read([str(one) for one in cells])


def filters(cls: type) -> list[Raw] | None:
    """Return the filters for containers of ``cls``; None if the notebook or script sets none."""
    cells = vars(sys.modules["__main__"]).get("In")
    if isinstance(cells, list):
        take_note()
        is_setting = _notebook.is_setting
    else:
        is_setting = _SETS.search(_text_of(cls)) is not None
    return list(warnings.filters) if is_setting else None


def content(cls: type) -> list[object] | None:
    """Return the content of `filters` for a digest: equal after other libraries are imported."""
    found = filters(cls)
    if found is None:
        return None
    others = _notebook.of_others
    own = [
        (action, _plain(message), f"{kind.__module__}.{kind.__qualname__}", _plain(module), line)
        for action, message, kind, module, line in found
        if (action, message, kind, module, line) not in others
    ]
    # A cell that defines a category runs again: the filter for the former one changes nothing.
    return [list(dict.fromkeys(own)), len(others.difference(found))]


def _plain(pattern: object) -> str:
    return str(getattr(pattern, "pattern", pattern or ""))


def _text_of(cls: type) -> str:
    """Return the source text of the script that defines a class."""
    try:
        path = inspect.getsourcefile(cls)
    except (OSError, TypeError):
        return ""
    return "".join(linecache.getlines(path)) if path else ""
