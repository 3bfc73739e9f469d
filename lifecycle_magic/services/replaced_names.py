"""Names of modules that the notebook has set to something else: containers do not see that.

A module reaches a container as its file, or with the image. An assignment such as
``settings.RATE = 10`` in a cell changes the notebook's copy alone, so the card reports it.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.fingerprint import bytecode, origin
from lifecycle_magic.wire.code_objects import with_nested_codes

__all__ = ["replaced_names"]

MAIN = "__main__"
_CONSTANTS = (bool, int, float, complex, str, bytes, tuple, type(None))


def replaced_names(functions: Iterable[FunctionType], imports: Iterable[str]) -> tuple[str, ...]:
    """Return a sentence for each name of a module that has another value in the notebook.

    The names are those that ``functions`` read from modules, and all names of the modules
    ``imports``, which are next to the notebook.
    """
    names = dict.fromkeys(_all_reads(functions))
    for module in filter(None, map(sys.modules.get, imports)):
        names.update(((module, name), None) for name in [*vars(module)])
    return tuple(filter(None, (_difference(module, name) for module, name in names)))


def _all_reads(functions: Iterable[FunctionType]) -> Iterator[tuple[ModuleType, str]]:
    for function in functions:
        space = function.__globals__
        if any(isinstance(space.get(name), ModuleType) for name in _names(function)):
            yield from _reads(function)


def _names(function: FunctionType) -> Iterator[str]:
    for code in with_nested_codes(function.__code__):
        yield from code.co_names


def _reads(function: FunctionType) -> Iterator[tuple[ModuleType, str]]:
    """Yield each module and the name of it that ``function`` reads, as in ``settings.RATE``."""
    for name, *rest in bytecode.read(function.__code__).globals:
        value = function.__globals__.get(name)
        while isinstance(value, ModuleType) and rest:
            module, name, *rest = value, *rest
            value = vars(module).get(name)
            if not isinstance(value, ModuleType):
                yield module, name


def _difference(module: ModuleType, name: str) -> str:
    """Return how a name differs between the notebook and the module's file, or an empty string."""
    value = vars(module).get(name)
    path = origin.source_of(module)
    own = module.__name__
    if own == MAIN or origin.is_ours(own) or not (path or origin.is_installed(own)):
        return ""
    if _is_of_notebook(value):
        return (
            f"{own}.{name} was replaced in the notebook, and containers have the one of {own}. "
            "Fix: replace it in an @enter method"
        )
    if path is None or origin.is_installed(own) or type(value) not in _CONSTANTS:
        return ""
    try:
        written = _constants(path, Path(path).stat().st_mtime_ns).get(name, value)
        if repr(written) == repr(value):
            return ""
    except Exception:  # no file any more, an unfinished edit, or a value without repr
        return ""
    return (
        f"{own}.{name} is {value!r:.60} in the notebook, and {written!r:.60} in {Path(path).name}, "
        "which containers import. Fix: write the value into the file, or set it in an @enter method"
    )


def _is_of_notebook(value: Any) -> bool:
    if isinstance(value, FunctionType):
        return value.__globals__.get("__name__") == MAIN
    return is_class(value) and value.__module__ == MAIN


@functools.lru_cache(maxsize=256)
def _constants(path: str, modified: int) -> dict[str, Any]:
    """Return the constants that a file assigns once, at its top, and nowhere else.

    ``modified`` is when the file was written: another text is read anew.
    """
    tree = ast.parse(Path(path).read_bytes())
    found: dict[str, Any] = {}
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found.update(_literal(name, value))
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                found.update(_literal(name, value))
    bound = [one.id for one in ast.walk(tree) if isinstance(one, ast.Name) and _is_store(one)]
    changed = {name for one in ast.walk(tree) if isinstance(one, ast.Global) for name in one.names}
    return {
        name: value
        for name, value in found.items()
        if bound.count(name) == 1 and name not in changed
    }


def _is_store(name: ast.Name) -> bool:
    return not isinstance(name.ctx, ast.Load)


def _literal(name: str, value: ast.expr) -> dict[str, Any]:
    try:
        return {name: ast.literal_eval(value)}
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return {}
