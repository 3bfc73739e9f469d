"""Names that IPython puts into a notebook's namespace, and what containers have in their place."""

from __future__ import annotations

import builtins
import types
from typing import Any

from lifecycle_magic.guest import notebook_names

__all__ = ["BUILTIN", "of_builtins", "outside_of"]

BUILTIN = object()
"""Stands for a name that containers have as a builtin: IPython's exit, quit and open."""

_HIDDEN = ("exit", "quit")  # builtins that IPython removes while a cell runs


def outside_of(name: str, value: Any) -> Any:
    """Return what a container has under ``name``: ``value`` unless it belongs to IPython."""
    if _is_interactive(value):
        stand_in = notebook_names.by_name(name)
        if stand_in is not None:
            return stand_in
        if name in _HIDDEN or hasattr(builtins, name):
            return BUILTIN
    return notebook_names.stand_in(value) or value


def of_builtins(name: str) -> Any:
    """Return what a container has in place of a function that IPython adds to the builtins."""
    return notebook_names.stand_in(getattr(builtins, name, None))


def _is_interactive(value: Any) -> bool:
    """Return whether a value belongs to IPython.

    functools.wraps hides the module of its functions, so their globals are read instead.
    """
    if isinstance(value, types.FunctionType):
        homes = [value.__globals__.get("__name__")]
    else:
        made = value.__self__ if isinstance(value, types.MethodType) else value
        homes = [one.__module__ for one in type(made).__mro__]  # an editor derives its own shell
    return any(str(home).partition(".")[0] in ("IPython", "ipykernel") for home in homes)
