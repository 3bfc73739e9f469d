"""The filters of `warnings` that the notebook or script has set.

IPython and libraries set filters too, the latter when they are imported, at any time. Only filters
that came while a cell ran whose text sets filters count as the notebook's.
"""

from __future__ import annotations

import inspect
import linecache
import re
import sys
import warnings

from lifecycle_magic.wire.warning_filters import Raw

__all__ = ["content", "filters"]

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
        ran = cells[self.cells :]
        if last := cells[self.cells - 1 : self.cells]:  # it declared a class, and then went on
            ran += last if not ran else [last[0].rpartition("\nclass ")[2]]
        fresh = set(warnings.filters) - self.known
        if any(map(_SETS.search, ran)):
            self.is_setting = True
        else:
            self.of_others |= fresh
        self.known |= fresh
        self.cells = len(cells)


_notebook = _Notebook()


def filters(cls: type) -> list[Raw] | None:
    """Return the filters for containers of ``cls``; None if the notebook or script sets none."""
    cells = vars(sys.modules["__main__"]).get("In")
    if isinstance(cells, list):
        _notebook.read([str(one) for one in cells])
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
