"""The names of a source file and what they stand for, read from the source without running it.

A module next to the notebook is imported again in each container, from its file as it is then. So
the file counts, not what this process imported from an earlier state of it. It counts name by name:
editing one function of a module does not affect code that uses another.

A *piece* is all top-level statements that concern one name, as syntax trees: comments, layout and
docstrings are dropped. A statement that may change any name (a star import) is part of every piece.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from dataclasses import dataclass

from lifecycle_magic.fingerprint.bytecode import Import
from lifecycle_magic.fingerprint.side_effects import SideEffects, imports_in, reads_of

__all__ = ["SourcePiece", "bound_names", "imports_of", "pieces_of"]

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_DOCUMENTED = (ast.Module, *_DEFINITIONS)


@dataclass(frozen=True)
class SourcePiece:
    """The statements of one name as a string, with the names that they read and their imports."""

    kind: str
    text: str
    names: tuple[str, ...]
    imports: tuple[Import, ...]


def pieces_of(path: str) -> Mapping[str, SourcePiece] | None:
    """Return every top-level name of a source file; None if the file can't be read or is not
    Python.
    """
    known = _cache.get(path)
    if known is not None and all(_stamp(one) == stamp for one, stamp in known[0].items()):
        return known[1]
    try:
        stamps = {path: _stamp(path)}
        pieces, others = _pieces(path)
    except (OSError, SyntaxError, ValueError):
        return None
    _cache[path] = ({**{one: _stamp(one) for one in others}, **stamps}, pieces)
    return pieces


# For each file, the stamps of all files that were read for it, and its pieces.
_cache: dict[str, tuple[dict[str, tuple[int, int] | None], Mapping[str, SourcePiece]]] = {}


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def imports_of(path: str) -> tuple[Import, ...]:
    """Return every import statement of a source file; none if the file can't be read."""
    try:
        with open(path, "rb") as file:
            return tuple(imports_in(ast.parse(file.read())))
    except (OSError, SyntaxError, ValueError):
        return ()


def _pieces(path: str) -> tuple[Mapping[str, SourcePiece], set[str]]:
    """Return the pieces of a file, and the other files that were read for them."""
    with open(path, "rb") as file:
        tree = ast.parse(file.read())
    body = [one for one in tree.body if not _is_main_guard(one)]
    bound: dict[str, list[ast.stmt]] = {}
    for statement in body:
        # A statement that binds nothing (TABLE["x"] = 1) changes what it mentions.
        for name in bound_names(statement) or reads_of(statement):
            bound.setdefault(name, []).append(statement)
    # Dictionaries keep the order, and contain each statement once.
    found = {name: dict.fromkeys(statements) for name, statements in bound.items()}
    effects = SideEffects(path, body, bound)
    for statement in body:
        touched = effects.changed_by(statement)
        for name in found if touched is None else touched & found.keys():
            found[name].setdefault(statement)
    parsed = {one: _Statement.of(one) for one in body}
    pieces = {name: _piece([parsed[one] for one in ones]) for name, ones in found.items()}
    return pieces, effects.files_read


@dataclass(frozen=True)
class _Statement:
    kind: str
    text: str
    names: frozenset[str]
    imports: tuple[Import, ...]

    @classmethod
    def of(cls, one: ast.stmt) -> _Statement:
        function = isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef))
        kind = "function" if function else "class" if isinstance(one, ast.ClassDef) else "constant"
        names = frozenset(reads_of(one) | bound_names(one))
        return cls(kind, ast.dump(_undocumented(one)), names, tuple(imports_in(one)))


def _piece(statements: list[_Statement]) -> SourcePiece:
    return SourcePiece(
        kind=statements[0].kind,
        text="\n".join(one.text for one in statements),
        names=tuple(sorted({name for one in statements for name in one.names})),
        imports=tuple(found for one in statements for found in one.imports),
    )


def bound_names(statement: ast.stmt) -> set[str]:
    """Return the module's names that a statement binds."""
    if isinstance(statement, _DEFINITIONS):
        return {statement.name}
    found: set[str] = set()
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _DEFINITIONS):
            found.add(node.name)
            continue  # names that it binds inside are its own
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
