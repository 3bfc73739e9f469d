"""The line that a warning is shown with: a line of the user's code, not of this package.

A warning with ``stacklevel=2`` in a method is about its caller, which is in the notebook. In the
container, the caller is this package. The line of the method is shown then.
"""

from __future__ import annotations

import os
import sys
import warnings
from types import FrameType
from typing import Any

__all__ = ["install"]

_FOLDER = __file__[: -len("guest/warning_lines.py")].rstrip(os.sep) + os.sep


def install() -> None:
    """Let warnings about lines of this package be shown with the user's line."""
    module: Any = warnings
    inner = module._formatwarnmsg_impl
    if getattr(inner, "__module__", None) == __name__:
        return

    def formatted(message: Any) -> str:
        if str(message.filename).startswith(_FOLDER):
            frame = _outermost_of_notebook(sys._getframe())
            if frame is not None:
                message.filename, message.lineno = frame.f_code.co_filename, frame.f_lineno
        return str(inner(message))

    module._formatwarnmsg_impl = formatted


def _outermost_of_notebook(frame: FrameType | None) -> FrameType | None:
    """Return the outermost frame of the notebook's code that runs now."""
    found = None
    while frame is not None:
        if frame.f_globals.get("__name__") == "__main__" and not _is_ours(frame):
            found = frame
        elif found is not None and _is_ours(frame):
            break
        frame = frame.f_back
    return found


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_FOLDER)
