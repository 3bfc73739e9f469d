"""Names of modules that the notebook has set to something else: containers do not see that.

A module reaches a container as its file, or with the image. An assignment such as
``settings.RATE = 10`` in a cell changes the notebook's copy alone, so the card reports it.
"""

from __future__ import annotations

import ast
import dis
import functools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.fingerprint import assigned_attributes, bytecode, origin
from lifecycle_magic.wire.code_objects import with_nested_codes

__all__ = ["replaced_names"]

MAIN = "__main__"
_CONSTANTS = (bool, int, float, complex, str, bytes, tuple, type(None))


def replaced_names(functions: Iterable[FunctionType], imports: Iterable[str]) -> tuple[str, ...]:
    """Return a sentence for each name of a module, or of a library's class, that has another value
    in the notebook.

    The names are those that ``functions`` read, and all names of the modules ``imports``, which are
    next to the notebook. What ``functions`` set themselves is not meant.
    """
    functions = list(functions)
    reads = dict.fromkeys(_all_reads(functions))
    for module in filter(None, map(sys.modules.get, imports)):
        reads.update(((module, name), None) for name in [*vars(module)])
    written = _assigned(functions)
    sentences = [_difference(owner, name, (id(owner), name) in written) for owner, name in reads]
    sentences += [_set_in_class(owner, name) for owner, name in _of_classes(functions, written)]
    if not any(sentences):
        return ()
    own = {name for function in functions for name in _stored(function.__code__)}
    pairs = zip([*reads, *_of_classes(functions, written)], sentences, strict=True)
    return tuple(dict.fromkeys(text for (_, name), text in pairs if text and name not in own))


def _assigned(functions: Sequence[FunctionType]) -> dict[tuple[int, str], Any]:
    """Return the modules and classes in which code of the notebook sets names, by id and name."""
    spaces = {id(one.__globals__): one.__globals__ for one in functions if _is_of_notebook(one)}
    return {
        (id(owner), name): owner
        for space in spaces.values()
        for owner, name in assigned_attributes.assigned(space)
    }


def _of_classes(
    functions: Sequence[FunctionType], written: dict[tuple[int, str], Any]
) -> list[tuple[type, str]]:
    """Return the attributes of libraries' classes that functions may read and the notebook sets."""
    names = {name for function in functions for name in _names(function)}
    found = {(id(owner), name): (owner, name) for (_, name), owner in written.items()}
    for function in functions:
        for owner in _classes(function):
            for name in names & vars(owner).keys():
                if _is_of_notebook(vars(owner)[name]):
                    found[id(owner), name] = owner, name
    return [
        (owner, name)
        for owner, name in found.values()
        if is_class(owner) and name in names and origin.is_installed(owner.__module__)
    ]


def _classes(function: FunctionType) -> Iterator[type]:
    """Yield the classes that a function reads by their name, or as an attribute of a module."""
    for name in _names(function):
        value = function.__globals__.get(name)
        if isinstance(value, ModuleType):
            inside = map(vars(value).get, _names(function))
            yield from (one for one in inside if is_class(one))
        elif is_class(value):
            yield value


def _stored(code: CodeType) -> Iterator[str]:
    """Yield the names of attributes that code sets."""
    for step in dis.get_instructions(code):
        if step.opname == "STORE_ATTR":
            yield step.argval
        elif isinstance(step.argval, CodeType):
            yield from _stored(step.argval)


def _set_in_class(cls: type, name: str) -> str:
    return (
        f"{cls.__module__}.{cls.__qualname__}.{name} was set in the notebook, and containers do "
        "not have that. Fix: set it in an @enter method"
    )


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


def _difference(module: ModuleType, name: str, is_assigned: bool) -> str:
    """Return how a name differs between the notebook and the module's file, or an empty string.

    ``is_assigned`` says that code of the notebook sets the name.
    """
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
    if is_assigned and (origin.is_installed(own) or type(value) not in _CONSTANTS):
        return (
            f"{own}.{name} was set in the notebook, and containers have what {own} itself has. "
            "Fix: set it in an @enter method"
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
    """Return whether a value is code of the notebook, or made from it: a partial, an accessor."""
    if isinstance(value, FunctionType):
        return value.__globals__.get("__name__") == MAIN
    if is_class(value) or value is None:
        return value is not None and value.__module__ == MAIN
    if isinstance(value, (staticmethod, classmethod, MethodType, functools.partial, property)):
        parts = ("__func__", "__self__", "func", "fget")
        return any(_is_of_notebook(getattr(value, name, None)) for name in parts)
    kind = type(value)
    if kind.__module__ == MAIN or any(one.__name__ == "NonCallableMock" for one in kind.__mro__):
        return True
    inside = vars(value).values() if kind.__name__.endswith("Accessor") else ()
    return any(is_class(one) and one.__module__ == MAIN for one in inside)


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
