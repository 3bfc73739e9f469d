"""The user's code in a container: the class, and `__main__` with the names that it refers to."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

from lifecycle_magic.guest import own_class

__all__ = ["UserCode", "current"]


current: UserCode | None = None
"""The code that this process has loaded."""


class UserCode:
    """The class of the live instance, with its namespaces.

    ``declared`` are the bytes of its last declaration.
    """

    def __init__(self) -> None:
        self.cls: Any = None
        self.spaces: dict[str, dict[str, Any]] = _Spaces()
        self.declared = b""

    def load(self, data: bytes) -> Any:
        """Load the class into this process and return it. Raises what loading raises."""
        global current
        from lifecycle_magic.guest import warning_lines
        from lifecycle_magic.wire import name_table, warning_filters

        warning_lines.install()
        warning_filters.remember_initial()
        found = name_table.read(data, self.spaces)
        show_sources(found.sources)
        self.cls, self.declared = found.cls, data
        current = self
        own_class.set_own_class(found.cls, self.spaces)
        return found.cls

    def swap(self, data: bytes) -> Callable[[], None]:
        """Replace the code of the live objects, keep all state, and return a function that undoes
        it.

        Raises `SwapConflict` if that is impossible without losing state; nothing has changed then.
        """
        from lifecycle_magic.guest.hot_swap import merge

        before = self.declared
        own_class.release()
        try:
            merged = merge.merge(self.cls, self.spaces, before, data)
            show_sources(merged.sources)
        finally:
            own_class.set_own_class(self.cls, self.spaces)
        self.declared = data

        def undo() -> None:
            own_class.release()
            merged.undo()
            own_class.set_own_class(self.cls, self.spaces)
            self.declared = before

        return undo


class _Spaces(dict[str, dict[str, Any]]):
    """The namespaces of the code, by name. The namespace of a module is created when it is
    needed.
    """

    def get(self, name: str, default: Any = None) -> Any:
        found = super().get(name)
        if found is None and name.isprintable() and not set(name) & {"#", "=", "@"}:
            found = self[name] = _module(name)
        return found if found is not None else default


def _module(name: str) -> dict[str, Any]:
    """Return the namespace of a module of the user that travels by value."""
    if name == "__main__":
        return vars(sys.modules[name])
    made = types.ModuleType(name)
    if not _is_importable(name):
        sys.modules[name] = made
        package = name.rpartition(".")[0]
        while package and not _is_importable(package):  # pickle imports the outermost one
            sys.modules[package] = types.ModuleType(package)
            sys.modules[package].__path__ = []
            package = package.rpartition(".")[0]
    return vars(made)


def _is_importable(name: str) -> bool:
    import importlib.util

    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def show_sources(sources: Mapping[str, str]) -> None:
    """Make the lines of the notebook's cells available to tracebacks, warnings and `inspect`."""
    import linecache

    for name, text in sources.items():
        # An entry without a modification time is never looked up on the disk.
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
