"""The lines at the top level of scripts, modules and cells that have asked `is_local`.

They asked themselves, or in what they called: a function, a decorator, a property, a class.

This module travels into containers: the standard library only.
"""

from __future__ import annotations

from types import FrameType

__all__ = ["count", "files", "note"]

_OURS = __name__.partition(".")[0]

_asked: dict[str, set[int]] = {}  # by file


def note(frame: FrameType | None) -> None:
    """Note the top-level lines that a frame was called from, up to code of this package.

    A call that this package makes for the user, as `.local` does, belongs to no line.
    """
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] != _OURS:
        code = frame.f_code
        if code.co_name == "<module>" or code.co_name.startswith("<cell line"):  # IPython 8
            _asked.setdefault(code.co_filename, set()).add(frame.f_lineno)
        frame = frame.f_back


def files() -> dict[str, frozenset[int]]:
    """Return the lines by file. A cell's file is the name under which IPython compiled it."""
    return {file: frozenset(lines) for file, lines in list(_asked.items())}


def count() -> int:
    """Return the number of lines, which grows with each new one."""
    return sum(map(len, list(_asked.values())))
