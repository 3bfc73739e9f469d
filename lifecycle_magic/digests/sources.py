"""What the names of a source file stand for, read from its text and without running it.

A module beside the notebook is imported anew in each container, from its file as it is then. So it
counts by its file, and not by what this process imported from an earlier state of it. It counts
name by name: editing one function of a module does not touch what uses another.

A *piece* is all top-level statements that have to do with one name, as syntax trees: comments,
layout and docstrings are gone. What may change any name (a star import) is part of every piece.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from dataclasses import dataclass

from lifecycle_magic.digests.bytecode import Import
from lifecycle_magic.digests.effects import Effects, imports_in, reads_of

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
    known = _read.get(path)
    if known is not None and all(_stamp(one) == stamp for one, stamp in known[0].items()):
        return known[1]
    try:
        stamps = {path: _stamp(path)}
        pieces, others = _pieces(path)
    except (OSError, SyntaxError, ValueError):
        return None
    _read[path] = ({**{one: _stamp(one) for one in others}, **stamps}, pieces)
    return pieces


# Of each file the stamps of what was read for it, its own among them, and its pieces.
_read: dict[str, tuple[dict[str, tuple[int, int] | None], Mapping[str, Piece]]] = {}


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def imports_of(path: str) -> tuple[Import, ...]:
    """Every import statement of a source file, wherever it stands; none if it can't be read."""
    try:
        with open(path, "rb") as file:
            return tuple(imports_in(ast.parse(file.read())))
    except (OSError, SyntaxError, ValueError):
        return ()


def _pieces(path: str) -> tuple[Mapping[str, Piece], set[str]]:
    """The pieces of a file, and which other files were looked at for them."""
    with open(path, "rb") as file:
        tree = ast.parse(file.read())
    body = [one for one in tree.body if not _is_main_guard(one)]
    bound: dict[str, list[ast.stmt]] = {}
    for statement in body:
        # A statement that binds nothing (TABLE["x"] = 1) changes what it mentions.
        for name in _bound(statement) or reads_of(statement):
            bound.setdefault(name, []).append(statement)
    # Dictionaries for their order, and for each statement to be there once.
    found = {name: dict.fromkeys(statements) for name, statements in bound.items()}
    effects = Effects(path, body, bound)
    for statement in body:
        touched = effects.of(statement)
        for name in found if touched is None else touched & found.keys():
            found[name].setdefault(statement)
    told = {one: _Statement.of(one) for one in body}
    pieces = {name: _piece([told[one] for one in ones]) for name, ones in found.items()}
    return pieces, effects.looked_at


@dataclass(frozen=True)
class _Statement:
    kind: str
    told: str
    names: frozenset[str]
    imports: tuple[Import, ...]

    @classmethod
    def of(cls, one: ast.stmt) -> _Statement:
        function = isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef))
        kind = "function" if function else "class" if isinstance(one, ast.ClassDef) else "constant"
        names = frozenset(reads_of(one) | _bound(one))
        return cls(kind, ast.dump(_undocumented(one)), names, tuple(imports_in(one)))


def _piece(statements: list[_Statement]) -> Piece:
    return Piece(
        kind=statements[0].kind,
        told="\n".join(one.told for one in statements),
        names=tuple(sorted({name for one in statements for name in one.names})),
        imports=tuple(found for one in statements for found in one.imports),
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
