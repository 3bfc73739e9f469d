"""Modal's modules by their paths: ``from lifecycle_magic.functions import FunctionCall``.

Each is made when it is first imported. It has those of Modal's names that exist here, and an error
that says what to write instead for each other one. Modules that have the same path in both packages
(``app``, ``exception``, ``secret``, ``volume``, ``network_file_system``) need nothing of this.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from lifecycle_magic.decorators.http_server import http_server
from lifecycle_magic.modal_api.names import INSTEAD_OF_MODULE, OF_MODULE
from lifecycle_magic.modal_api.names import MODULES as MODULES_SECTION
from lifecycle_magic.modal_api.refused_names import RefusedName, refused_name
from lifecycle_magic.modal_api.table import explain, find, notes

__all__ = ["MODULES", "find_spec"]

PACKAGE = __name__.partition(".")[0]
_OWN = ("app", "exception", "network_file_system", "secret", "volume")
"""Modules of the same path in both packages."""


def _names_of_modules() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {one: [] for one in INSTEAD_OF_MODULE}
    for entry in MODULES_SECTION.entries:
        owner, _, module = entry.owner.partition(".")
        if module and owner == "modal" and "." not in module:
            names = found.setdefault(module, [])
            if entry.verdict in ("runs", "renamed"):
                names.append(entry.name)
    return {one: tuple(names) for one, names in found.items() if one not in _OWN}


MODULES = _names_of_modules()
"""Modal's modules, and which of their names exist here."""


def find_spec(name: str) -> ModuleSpec | None:
    """Return how to make the module ``name``, None if Modal has none of this name.

    Raises `ImportError` for a name in a ``from`` import that exists in Modal only: Python asks for
    a module of that name last.
    """
    own = name.removeprefix(f"{PACKAGE}.")
    module, _, inner = own.partition(".")
    if inner and module in MODULES:
        raise ImportError(_explain(module, inner))
    if own in MODULES:
        spec = ModuleSpec(name, _Loader(), origin=__file__, is_package=True)
        spec.has_location = True  # so that the module counts as installed, not as the user's own
        return spec
    if message := explain("modal", own):
        raise ImportError(message)
    return None


class _Loader(Loader):
    """The loader of one of Modal's modules."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return None: the usual kind of module is right."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module with the names that exist here."""
        name = module.__name__.rpartition(".")[2]
        package = import_module(PACKAGE)
        module.__doc__ = f"The names of ``modal.{name}`` that exist here."
        found: dict[str, Any] = {
            one: getattr(package, one) for one in MODULES[name] if hasattr(package, one)
        }
        if name == "experimental":
            found = {"http_server": http_server}
        if name == "types":
            found = {one: getattr(import_module(f"{PACKAGE}.volume"), one) for one in MODULES[name]}
        if name == "gpu":
            found = {model: _gpu("any" if model == "Any" else model) for model in MODULES[name]}
        vars(module).update(found)
        vars(module)["__all__"] = sorted(found)
        vars(module)["__getattr__"] = lambda missing: vars(module).setdefault(
            missing, _refused(name, missing)
        )


def _refused(module: str, name: str) -> RefusedName:
    """Return what stands for a refused name of the module. Raises `AttributeError` for others."""
    known = {*OF_MODULE.get(module, "").split(), *notes(f"modal.{module}", "refused")}
    if name not in known:
        raise AttributeError(_explain(module, name))
    if explain("modal", name):
        same: RefusedName = getattr(import_module(PACKAGE), name)
        return same
    return refused_name(f"{PACKAGE}.{module}", name, _explain(module, name))


def _explain(module: str, name: str) -> str:
    """Return the message for a name that a module of Modal's has, or might have."""
    if name.startswith("__"):
        return f"module '{PACKAGE}.{module}' has no attribute {name!r}"
    entry = find(f"modal.{module}", name) or find("modal", name)
    fix = entry.note if entry is not None and entry.verdict == "refused" else None
    fix = fix or INSTEAD_OF_MODULE.get(module)
    there = sys.modules.get(f"{PACKAGE}.{module}")
    names = ", ".join(getattr(there, "__all__", ()))
    if fix is None:
        fix = f"it has {names}" if names else "remove it: it is for Modal's cloud"
    return f"Modal has {module}.{name}, here there is none. Fix: {fix}"


def _gpu(model: str) -> Callable[..., str]:
    """Return what ``modal.gpu.A100`` was: a function that makes a GPU, here its string."""

    def gpu(*, count: int = 1, size: str | None = None, memory: int | None = None) -> str:
        name = model if size is None else f"{model}-{size}"
        name = name if memory in (None, 0) else f"{model}-{memory}GB"
        return name if count == 1 else f"{name}:{count}"

    gpu.__name__ = gpu.__qualname__ = model
    gpu.__doc__ = f'Return a string for ``gpu=``: write ``gpu="{model}"`` or ``"{model}:2"``.'
    return gpu
