"""Modules that do in a container what they do in a notebook, changed when they are imported."""

from __future__ import annotations

import importlib.machinery
import os
import sys
import types
from collections.abc import Callable, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec

__all__ = ["install"]

_IPYTHON = "IPython.core.display_functions"
_PYPLOT_BACKEND = "module://lifecycle_magic.guest.pyplot_backend"


def install() -> None:
    """Install the hooks. Called once, when the worker starts."""
    sys.meta_path.insert(0, _Finder())
    for name in _CHANGES.keys() & sys.modules.keys():
        _CHANGES[name](sys.modules[name])


class _Finder:
    """Finds the modules to change, as the other finders find them."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        change = _CHANGES.get(name)
        if change is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Changing(spec.loader, change)
        return spec


class _Changing(Loader):
    """A loader that changes the module after the real loader has run its code."""

    def __init__(self, loader: Loader, change: Callable[[types.ModuleType], None]) -> None:
        self._loader = loader
        self._change = change

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._change(module)


def _show_by_ipython(module: types.ModuleType) -> None:
    from lifecycle_magic.guest import rich_output

    for name in ("display", "update_display", "clear_output", "publish_display_data"):
        setattr(module, name, getattr(rich_output, name))


def _show_by_pyplot(module: types.ModuleType) -> None:
    chosen = dict.get(module.rcParams, "backend")  # a matplotlibrc may have one
    if "MPLBACKEND" not in os.environ and not isinstance(chosen, str):
        module.rcParams["backend"] = _PYPLOT_BACKEND


def _show_bars(module: types.ModuleType) -> None:
    from lifecycle_magic.guest import notebook_bars

    notebook_bars.replace_bars(module)


def _choose_bars(module: types.ModuleType) -> None:
    from lifecycle_magic.guest import notebook_bars

    notebook_bars.replace_automatic_bars(module)


def _define_in_children(module: types.ModuleType) -> None:
    from lifecycle_magic.guest import spawned_children

    spawned_children.add_definitions(module)


_CHANGES: dict[str, Callable[[types.ModuleType], None]] = {
    _IPYTHON: _show_by_ipython,
    "matplotlib": _show_by_pyplot,
    "multiprocessing.spawn": _define_in_children,
    "tqdm.autonotebook": _choose_bars,
    "tqdm.notebook": _show_bars,
}
