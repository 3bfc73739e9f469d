"""Attributes of modules and classes that the code of a notebook or script assigns at its top level.

``numpy.my_flag = 3`` changes the notebook's numpy. A container imports one without it.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.fingerprint.notebook_cells import cells_of
from lifecycle_magic.fingerprint.reruns import texts_of

__all__ = ["assigned"]

_MAY_ASSIGN = re.compile(r"\.\w+\s*(?:[-+*/%&|^@]|//|\*\*|>>|<<)?=(?!=)|\bsetattr\(")
_CODE_FOR_LATER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def assigned(space: dict[str, Any]) -> list[tuple[Any, str]]:
    """Return modules and classes with the names that code at the top level of ``space`` sets there.

    What a name of the code means is what it means now.
    """
    found: dict[tuple[int, str], tuple[Any, str]] = {}
    for text in filter(_MAY_ASSIGN.search, texts_of(space)):
        for path, name in _targets(text):
            owner = _resolved(space, path)
            if isinstance(owner, ModuleType) or is_class(owner):
                found[id(owner), name] = owner, name
    return list(found.values())


def _resolved(space: dict[str, Any], path: tuple[str, ...]) -> Any:
    found = space.get(path[0])
    for name in path[1:]:
        found = vars(found).get(name) if hasattr(found, "__dict__") else None
    return found


@functools.lru_cache(maxsize=1024)
def _targets(text: str) -> tuple[tuple[tuple[str, ...], str], ...]:
    """Return the attributes that a text assigns at its top level: ``(("a", "b"), "c")`` of
    ``a.b.c = 1``.
    """
    trees = [_tree(text)]
    if trees == [None]:  # magics and shell commands are in it
        trees = [_tree(cell.source) for cell in cells_of([text])]
    nodes = (node for tree in trees if tree is not None for node in _running(tree))
    return tuple(one for node in nodes if (one := _target(node)) is not None)


def _tree(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return None


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of the code that runs with a cell, not those of functions and classes."""
    yield node
    for inner in ast.iter_child_nodes(node):
        if not isinstance(inner, _CODE_FOR_LATER):
            yield from _running(inner)


def _target(node: ast.AST) -> tuple[tuple[str, ...], str] | None:
    match node:
        case ast.Attribute(value=owner, attr=name, ctx=ast.Store()):
            path = _path(owner)
        case ast.Call(func=ast.Name(id="setattr"), args=[owner, ast.Constant(value=str(name)), _]):
            path = _path(owner)
        case _:
            return None
    return (path, name) if path else None


def _path(node: ast.expr) -> tuple[str, ...]:
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute) and (path := _path(node.value)):
        return (*path, node.attr)
    return ()
