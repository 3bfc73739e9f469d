"""The origin of code: installed, this package or the user, and the files next to a notebook."""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import os
import site
import sys
import sysconfig
from types import CodeType, ModuleType
from typing import Any

from lifecycle_magic.decorators.travel import TRAVELS
from lifecycle_magic.fingerprint.bytecode import Import

__all__ = [
    "compiled",
    "file_of",
    "is_foreign",
    "is_installed",
    "is_installed_path",
    "is_ours",
    "local_sources",
    "qualified_name",
    "resolves",
    "source_of",
    "version",
    "without_handle",
]

_PACKAGE = __name__.partition(".")[0]


def is_ours(module: str) -> bool:
    """Return whether a module is part of this package."""
    return module == _PACKAGE or module.startswith(_PACKAGE + ".")


def is_installed(module: str | None) -> bool:
    """Return whether a module belongs to the standard library or to an installed package.

    An unknown module (created at run time, or deleted) belongs to the user.
    """
    if module is None:  # C code without a module name
        return True
    top = module.partition(".")[0]
    if top in ("__main__", "__mp_main__"):
        return False
    if top in sys.stdlib_module_names:
        return True
    found = sys.modules.get(module) or sys.modules.get(top)
    if found is None:
        return False
    path = getattr(found, "__file__", None)
    if path is None:
        spec = getattr(found, "__spec__", None)
        places = list(getattr(spec, "submodule_search_locations", None) or ())
        return bool(places) and all(is_installed_path(place) for place in places)
    return is_installed_path(path)


def is_foreign(module: ModuleType) -> bool:
    """Return whether a module's content is not read, because it is installed or part of this
    package.
    """
    return is_ours(module.__name__) or is_installed(module.__name__)


@functools.lru_cache(maxsize=4096)
def is_installed_path(path: str) -> bool:
    """Return whether a file is part of Python or of an installed package."""
    parts = path.replace("\\", "/").split("/")
    if "site-packages" in parts or "dist-packages" in parts:
        return True
    return any(os.path.abspath(path).startswith(root + os.sep) for root in _roots())


@functools.lru_cache(maxsize=1)
def _roots() -> tuple[str, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = {sysconfig.get_path(name) for name in names} | {site.getusersitepackages()}
    return tuple(sorted(os.path.abspath(path) for path in found if path))


def version(module: str) -> str:
    """Return the ``__version__`` of the package that a module is in, or an empty string."""
    found = vars(sys.modules.get(module.partition(".")[0], ModuleType(""))).get("__version__")
    return found if isinstance(found, str) else ""


def qualified_name(thing: Any, home: str | None) -> str | None:
    """Return the qualified name and version of an object that an installed module has by that name.

    None for the user's objects, and for objects that a library created at run time: a wrapper of
    the user's function has an installed module too, but no name there. Code that ``exec`` ran in a
    namespace without ``__name__`` has no module: ``home`` is None.
    """
    if home is None:
        return None
    if is_ours(home):
        return f"{home}.{thing.__qualname__}" if resolves(thing, home) else None
    if not is_installed(home) or not resolves(thing, home):
        return None
    return f"{home}.{thing.__qualname__} {version(home)}"


def resolves(thing: Any, home: str | None) -> bool:
    """Return whether a module has this very object under its qualified name."""
    found: Any = None if home is None else sys.modules.get(home)
    if found is None:
        return False
    for name in thing.__qualname__.split("."):
        found = vars(found).get(name) if hasattr(found, "__dict__") else None
        if found is None:
            return False
    return getattr(found, "__func__", found) is thing


def source_of(module: ModuleType) -> str | None:
    """Return the path of a module's source file, if it still exists."""
    path = getattr(module, "__file__", None)
    return path if path and path.endswith(".py") and os.path.isfile(path) else None


def file_of(module: str) -> str | None:
    """Return the source file of a module or package by name, without importing it; None if none."""
    search: list[str] | None = None
    path = None
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        spec = _find(".".join(parts[:depth]), search)
        if spec is None:
            return None
        path, search = spec.origin, list(spec.submodule_search_locations or ())
    return path if path and path.endswith(".py") else None


def compiled(path: str) -> CodeType | None:
    """Return the code of a source file, or None if it can't be read or compiled."""
    try:
        with open(path, "rb") as file:
            return compile(file.read(), path, "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError):
        return None


def local_sources(found: Import, package: str) -> list[tuple[str, str]]:
    """Return name and path of the user's source files that an import statement runs.

    Imports nothing.
    """
    name = found.module
    if found.level:
        base = package.split(".") if package else []
        base = base[: len(base) - (found.level - 1)]
        name = ".".join([*base, *([name] if name else [])])
    if not name or is_ours(name) or name.partition(".")[0] in sys.stdlib_module_names:
        return []
    tops = name.split(".")
    search: list[str] | None = None
    sources: list[tuple[str, str]] = []
    for depth in range(1, len(tops) + 1):
        spec = _find(".".join(tops[:depth]), search)
        if spec is None:
            return sources
        _add(sources, spec)
        search = list(spec.submodule_search_locations or ())
        if not search:
            return sources
    for inner in found.names:  # ``from package import submodule``
        spec = _find(f"{name}.{inner}", search)
        if spec is not None:
            _add(sources, spec)
    return sources


def _find(name: str, search: list[str] | None) -> importlib.machinery.ModuleSpec | None:
    # By the last part of its name: with the whole name of a folder without __init__.py, it looks
    # for the parent in sys.modules, which may not be imported.
    try:
        spec = importlib.machinery.PathFinder.find_spec(name.rpartition(".")[2], search)
    except (ImportError, ValueError, OSError):
        return None
    if spec is not None:
        spec.name = name
    return spec


def _add(sources: list[tuple[str, str]], spec: importlib.machinery.ModuleSpec) -> None:
    path = spec.origin
    if path and path.endswith(".py") and not is_installed_path(path):
        sources.append((spec.name, path))


def without_handle(value: Any) -> Any:
    """Return what a handle stands for: whether a class has a handle already must not matter."""
    kind = type(value)
    if is_ours(kind.__module__) and "__reduce__" in vars(kind):
        made = value.__reduce__()
        if isinstance(made, tuple) and made[0] in TRAVELS:
            return made[1][0]
    return value
