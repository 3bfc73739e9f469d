"""What the names of a source file stand for, read from its text and without running it.

A module beside the notebook is imported anew in each container, from its file as it is then. So it
counts by its file, and not by what this process imported from an earlier state of it. It counts
name by name: editing one function of a module does not touch what uses another.

A *piece* is all top-level statements that have to do with one name, as syntax trees: comments,
layout and docstrings are gone. What may change any name (a star import) is part of every piece.
"""

from __future__ import annotations

import ast
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass

from lifecycle_magic.bytecode import Import
from lifecycle_magic.effects import Effects, imports_in, reads_of

__all__ = ["Piece", "imports_of", "pieces_of"]

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_DOCUMENTED = (ast.Module, *_DEFINITIONS)


@dataclass(frozen=True)
class Piece:
    """What one name stands for: its statements as a text, the names they read, their imports."""

    kind: str
    told: str
    names: tuple[str, ...]
    imports: tuple[Import, ...]


def pieces_of(path: str) -> Mapping[str, Piece] | None:
    """Every top-level name of a source file; None if it can't be read or is no Python."""
    try:
        stat = os.stat(path)
        return _pieces(path, stat.st_mtime_ns, stat.st_size)
    except (OSError, SyntaxError, ValueError):
        return None


def imports_of(path: str) -> tuple[Import, ...]:
    """Every import statement of a source file, wherever it stands; none if it can't be read."""
    try:
        with open(path, "rb") as file:
            return tuple(imports_in(ast.parse(file.read())))
    except (OSError, SyntaxError, ValueError):
        return ()


@functools.lru_cache(maxsize=256)
def _pieces(path: str, changed: int, size: int) -> Mapping[str, Piece]:
    with open(path, "rb") as file:
        tree = ast.parse(file.read())
    body = [one for one in tree.body if not _is_main_guard(one)]
    bound: dict[str, list[ast.stmt]] = {}
    for statement in body:
        # A statement that binds nothing (TABLE["x"] = 1) changes what it mentions.
        for name in _bound(statement) or reads_of(statement):
            bound.setdefault(name, []).append(statement)
    found = {name: list(statements) for name, statements in bound.items()}
    effects = Effects(path, body, bound)
    for statement in body:
        touched = effects.of(statement)
        for name in found if touched is None else touched:
            if name in found and statement not in found[name]:
                found[name].append(statement)
    return {name: _piece(statements) for name, statements in found.items()}


def _piece(statements: list[ast.stmt]) -> Piece:
    names = {name for one in statements for name in (*reads_of(one), *_bound(one))}
    first = statements[0]
    function = isinstance(first, (ast.FunctionDef, ast.AsyncFunctionDef))
    kind = "function" if function else "class" if isinstance(first, ast.ClassDef) else "constant"
    return Piece(
        kind=kind,
        told="\n".join(ast.dump(_undocumented(one)) for one in statements),
        names=tuple(sorted(names)),
        imports=tuple(found for one in statements for found in imports_in(one)),
    )


def _bound(statement: ast.stmt) -> set[str]:
    """The module's names that a statement binds."""
    if isinstance(statement, _DEFINITIONS):
        return {statement.name}
    found: set[str] = set()
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _DEFINITIONS):
            found.add(node.name)
            continue  # what it binds inside is its own
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            found |= names - {"*"}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        if not isinstance(node, ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))
    return found


def _is_main_guard(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__name__" in reads_of(statement.test)


def _undocumented(statement: ast.stmt) -> ast.stmt:
    for node in ast.walk(statement):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = [*node.body[1:], ast.Pass()] if len(node.body) == 1 else node.body[1:]
    return statement
