"""The filters of `warnings` that the notebook or script has set.

IPython and libraries set filters too, the latter when they are imported, at any time. Filters count
as the notebook's if they came while code of the notebook ran whose text sets filters: cells, files
that cells run, and modules next to the notebook. Once such code is there, a function of it may be
called later: then filters count that came without the import of an installed library.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import linecache
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from lifecycle_magic.fingerprint import origin, run_files
from lifecycle_magic.wire.warning_filters import Raw

__all__ = ["content", "filters", "take_note"]

_SETS = re.compile(r"\b(?:filterwarnings|simplefilter|resetwarnings)\b|\bwarnings\.filters\b")


class _Notebook:
    """The known filters so far, up to a cell."""

    def __init__(self) -> None:
        self.cells = 0
        self.is_setting = False
        self.known: set[Raw] = set()
        self.of_others: set[Raw] = set()
        self._shell_cells: set[str] = set()  # names of cells in `linecache`
        self._modules: set[str] = set()
        self._sources: dict[str, int] = {}  # modules next to the notebook: path and time of change

    def read(self, cells: list[str]) -> None:
        """Take note of the filters that came with the code that ran since the last time."""
        read = self.cells if self.cells <= len(cells) else 0
        # A cell that is read again has declared a class meanwhile, for which libraries may have
        # been imported: what it sets after the class counts.
        ran = cells[read:] or [_after_classes(one) for one in cells[-1:]]
        fresh = set(warnings.filters) - self.known
        has_imported = self._note_modules()
        if any([*map(_sets_filters, [*ran, *self._without_history(), *self._changed_sources()])]):
            self.is_setting = True
        elif has_imported or not self.is_setting:
            self.of_others |= fresh
        self.known |= fresh
        self.cells = len(cells)

    def _note_modules(self) -> bool:
        """Take note of the modules that were imported since the last time. Return whether any is
        part of a library.
        """
        has_imported = False
        for name in sys.modules.keys() - self._modules:
            self._modules.add(name)
            found: Any = sys.modules.get(name)
            if origin.is_ours(name) or name == "__main__":
                continue
            if origin.is_installed(name):
                has_imported = True
            elif path := origin.source_of(found):
                self._sources[path] = 0
        return has_imported

    def _changed_sources(self) -> Iterator[str]:
        """Yield the texts of modules next to the notebook that are new or have changed."""
        for path, before in self._sources.items():
            changed = run_files.changed_at(path)
            if changed != before:
                self._sources[path] = changed
                yield run_files.text_of(path)

    def _without_history(self) -> Iterator[str]:
        """Yield the texts of cells that ran without an entry in ``In``.

        A frontend may run cells without history; ``%run`` does so with the cells of a notebook.
        """
        compiler = getattr(_shell(), "compile", None)
        for name in list(getattr(compiler, "_filename_map", ())):
            if name not in self._shell_cells:
                self._shell_cells.add(name)
                yield "".join(linecache.getlines(name))


def _shell() -> Any:
    """Return IPython's shell, or None."""
    return getattr(vars(sys.modules["__main__"]).get("get_ipython"), "__self__", None)


def _sets_filters(text: str) -> bool:
    """Return whether code sets filters, in its text or in files that it runs."""
    return any(_SETS.search(one) for one in (text, *run_files.texts(text)))


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
    _notebook.read([str(one) for one in cells] if isinstance(cells, list) else [])


def filters(cls: type) -> list[Raw] | None:
    """Return the filters for containers of ``cls``; None if the notebook or script sets none."""
    cells = vars(sys.modules["__main__"]).get("In")
    take_note()
    is_setting = _notebook.is_setting or (
        not isinstance(cells, list) and _sets_filters(_text_of(cls))
    )
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
