"""Fixes for a name that the notebook has but the container lacks."""

from __future__ import annotations

import re
import sys
import traceback

__all__ = ["note"]

_NAMED = re.compile(r"(?:^name|^module '__main__' has no attribute) '(\w+)'")
_LOOKUPS = ("globals()", "vars(", "__dict__", "__globals__", "user_ns")


def note(error: Exception, cls: str) -> str:
    """Return a fix if ``error`` is about a name that the notebook has; otherwise an empty string.

    A class takes along the names that its code writes out, as they are when its cell runs.
    """
    name = _name_in(error)
    if name is None or name not in vars(sys.modules["__main__"]):
        return ""
    return (
        f"{name} is defined in the notebook, but not in the container of {cls}: either it was "
        f"defined after the cell of {cls} had run, or the code of {cls} makes the name at run "
        f"time. Fix: write {name} in that cell (as in NAMES = [{name}]) and run the cell again"
    )


def _name_in(error: Exception) -> str | None:
    """Return the name that a NameError, a KeyError or an AttributeError of `__main__` is about."""
    if isinstance(error, KeyError):
        key = error.args[0] if len(error.args) == 1 else None
        return key if isinstance(key, str) and _is_lookup(error) else None
    if isinstance(error, UnboundLocalError):
        return None
    found = _NAMED.search(str(error))
    return found[1] if found else None


def _is_lookup(error: KeyError) -> bool:
    """Return whether the line that raised the error looks up a name of its module."""
    frames = traceback.extract_tb(error.__traceback__)
    line = (frames[-1].line or "") if frames else ""
    return any(one in line for one in _LOOKUPS)
