"""The Python minor versions on the two sides of a connection.

Where they differ, code travels as source text (`wire.source_code`).
"""

from __future__ import annotations

import sys

__all__ = ["enable_sources", "is_supported", "python_minor", "sources_enabled"]

OLDEST, NEWEST = (3, 10), (3, 14)
"""The minor versions of Python that a container can have."""

# Where one of these versions keeps what the others have elsewhere. Pickles name these modules.
_MOVED = {"pathlib._local": "pathlib"}

_sources_enabled = False


def python_minor() -> str:
    """Return this Python's minor version, such as ``3.12``."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def is_supported(python: object) -> bool:
    """Return whether a container may have this minor version of Python.

    >>> is_supported("3.12"), is_supported("3.9"), is_supported("2.7")
    (True, False, False)
    """
    try:
        major, minor = map(int, str(python).split("."))
    except ValueError:
        return False
    return OLDEST <= (major, minor) <= NEWEST


def enable_sources() -> None:
    """Let what this process sends from now on be readable in every supported Python."""
    global _sources_enabled
    if _sources_enabled:
        return
    import importlib

    _sources_enabled = True
    for name, where in _MOVED.items():
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = importlib.import_module(where)


def sources_enabled() -> bool:
    """Return whether a process with another Python may read what this process sends."""
    return _sources_enabled
