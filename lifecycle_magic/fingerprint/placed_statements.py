"""Top-level statements with their place in a file, and what each one changes in its namespace."""

from __future__ import annotations

import ast
import functools
import linecache
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from lifecycle_magic.decorators import asked_lines
from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.decorators.hooks import CALL_FORMS
from lifecycle_magic.decorators.travel import is_local
from lifecycle_magic.fingerprint import origin
from lifecycle_magic.fingerprint.statements import Cell, Statement, executed, read, root

__all__ = [
    "PlacedStatement",
    "StatementFacts",
    "evaluated",
    "imported_modules",
    "imports_packages",
    "is_ours_or_handle",
    "makers",
    "meaning",
    "place",
    "rebound",
]

_UNCHANGEABLE = (
    *(bool, int, float, complex, str, bytes, tuple, frozenset, type(None)),
    *(FunctionType, BuiltinFunctionType, ModuleType),
)


class StatementFacts:
    """What the text of a statement alone says: its first line, the functions that it calls, and the
    environment variables that it reads.

    ``called_on`` are the names whose methods it calls, and ``passed`` functions with the names that
    they get.
    """

    def __init__(self, statement: Statement) -> None:
        node = statement.node
        self.statement = statement
        self.line = _first_line(statement)
        self.last_line = node.end_lineno or node.lineno
        self.is_left_out = statement.is_future or _is_main_block(node)
        nodes = list(evaluated(node))
        self.called = [one.func for one in nodes if isinstance(one, ast.Call)]
        self.variables = frozenset(name for one in nodes for name in _variable_read(one))
        self.attributes = [one for one in nodes if isinstance(one, ast.Attribute)]
        self.called_on: list[str] = []
        self.passed: list[tuple[ast.expr, str]] = []
        self._read_calls(node)

    def _read_calls(self, node: ast.stmt) -> None:
        decorators = getattr(node, "decorator_list", ())
        for one in (*executed(node), *(part for top in decorators for part in executed(top))):
            if not isinstance(one, ast.Call):
                continue
            if isinstance(one.func, ast.Attribute):
                if one.func.attr in CALL_FORMS:
                    continue
                self.called_on += root(one.func)
            for argument in (*one.args, *(given.value for given in one.keywords)):
                if isinstance(argument, ast.Name):
                    self.passed.append((one.func, argument.id))


class PlacedStatement:
    """A statement with its place, and what it changes in one namespace.

    ``asked`` are the lines of its text that asked `is_local` when they ran.
    """

    def __init__(
        self, facts: StatementFacts, file: str, space: dict[str, Any], asked: Iterable[int]
    ) -> None:
        self.facts, self.statement = facts, facts.statement
        self.file, self.line = file, facts.line
        self.has_asked = any(facts.line <= line <= facts.last_line for line in asked)
        self.changes = frozenset(_changed(facts, space)) - self.statement.defines
        self.is_excluded = facts.is_left_out or any(
            is_ours_or_handle(space.get(name)) for name in self.statement.defines
        )


def place(sources: Iterable[tuple[str, str]], space: dict[str, Any]) -> list[PlacedStatement]:
    """Return the statements that ran in a namespace. ``sources`` are files, or cells, with their
    texts.
    """
    asked = {
        "".join(linecache.getlines(file)).strip(): lines
        for file, lines in asked_lines.files().items()
    }
    found = [
        PlacedStatement(one, file, space, asked.get(text.strip(), ()))
        for file, text in sources
        for one in _read(text)
    ]
    _add_effects(found, space)
    return found


def _add_effects(statements: Sequence[PlacedStatement], space: dict[str, Any]) -> None:
    """Add to the changes of statements those that the functions make which they call."""
    definitions = {name: one.statement for one in statements for name in one.statement.defines}
    for one in statements:
        waiting = list(one.statement.runs)
        seen: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name in seen or (made := definitions.get(name)) is None:
                continue
            seen.add(name)
            waiting += made.reads_later
            changed = {name for name in made.changes_later if _is_changeable(name, space)}
            one.changes |= (changed | made.makes_later) - one.statement.defines


@functools.lru_cache(maxsize=2048)
def _read(text: str) -> tuple[StatementFacts, ...]:
    """Return the statements of a text. A notebook's cells are read again after each cell."""
    return tuple(StatementFacts(one) for one in read([Cell(text)]))


def makers(
    statements: Sequence[PlacedStatement], name: str, before: int | None = None
) -> list[int]:
    """Return the last definition of a name, what it builds on, and the later changes.

    ``before`` is the index of `rebound` that ends the search; None is the end of the file.
    """
    found = []
    for index in range(len(statements) if before is None else before)[::-1]:
        placed = statements[index]
        if placed.is_excluded:
            continue
        if name in placed.statement.defines:
            found.append(index)
            if _begins_anew(placed.statement, name):
                break
        elif name in placed.changes:
            found.append(index)
    return found


def rebound(statements: Sequence[PlacedStatement], name: str, reader: int) -> int | None:
    """Return the first statement after a reader that gives a name another object; None if none."""
    for index in range(reader + 1, len(statements)):
        if _begins_anew(statements[index].statement, name):
            return index
    return None


def _begins_anew(statement: Statement, name: str) -> bool:
    return name in statement.defines and statement.is_certain and name not in statement.reads


def _first_line(statement: Statement) -> int:
    """Return the line of a statement's text, which begins with the comments above it."""
    node = statement.node
    first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
    lines = statement.text.splitlines()
    above: int = next((n for n, one in enumerate(lines) if not one.startswith("#")), 0)
    return int(first - above)


def is_ours_or_handle(value: Any) -> bool:
    """Return whether a value is a handle or another object of this package."""
    made = value if is_class(value) or isinstance(value, FunctionType) else type(value)
    return origin.is_ours(str(made.__module__)) and value is not is_local


def _changed(facts: StatementFacts, space: dict[str, Any]) -> Iterator[str]:
    """Yield the names whose objects a statement may change."""
    for name in (*facts.statement.changes, *facts.called_on):
        if _is_changeable(name, space):
            yield name
    for function, name in facts.passed:
        # An object that is made from others leaves them as they are.
        if _is_changeable(name, space) and not is_class(meaning(function, space)):
            yield name


def _is_changeable(name: str, space: dict[str, Any]) -> bool:
    value = space.get(name)
    if name not in space or isinstance(value, _UNCHANGEABLE) or is_class(value):
        return False
    return not is_ours_or_handle(value)


def meaning(function: ast.expr, space: dict[str, Any]) -> Any:
    """Return what a dotted name means; None for any other expression."""
    names: list[str] = []
    while isinstance(function, ast.Attribute):
        names.insert(0, function.attr)
        function = function.value
    if not isinstance(function, ast.Name):
        return None
    value = space.get(function.id)
    for name in names:
        value = vars(value).get(name) if isinstance(value, ModuleType) else None
    return value


def evaluated(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run with a statement, in class bodies too, but in no function."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        for one in (
            *node.decorator_list,
            *node.args.defaults,
            *filter(None, node.args.kw_defaults),
        ):
            yield from evaluated(one)
        return
    if isinstance(node, ast.Lambda):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from evaluated(child)


def _variable_read(node: ast.AST) -> Iterator[str]:
    """Yield the environment variable that an expression reads, as in ``os.environ["X"]``."""
    if isinstance(node, ast.Subscript):
        place, key = node.value, node.slice
    elif isinstance(node, ast.Call) and node.args:
        place, key = node.func, node.args[0]
    else:
        return
    if isinstance(key, ast.Constant) and isinstance(key.value, str):
        text = ast.unparse(place).removesuffix(".get")
        if text.rpartition(".")[2] in ("environ", "getenv"):
            yield key.value


def _is_main_block(node: ast.stmt) -> bool:
    if not isinstance(node, ast.If):
        return False
    text = ast.unparse(node.test)
    return "__name__" in text and "__main__" in text


def imported_modules(node: ast.AST) -> Iterator[str]:
    """Yield the modules that a statement imports by their full names."""
    for one in ast.walk(node):
        if isinstance(one, ast.Import):
            yield from (alias.name for alias in one.names)
        elif isinstance(one, ast.ImportFrom) and one.module and not one.level:
            yield one.module
            yield from (f"{one.module}.{alias.name}" for alias in one.names)


def imports_packages(node: ast.stmt) -> bool:
    """Return whether a statement imports installed packages, and nothing else."""
    tops = {name.partition(".")[0] for name in imported_modules(node)}
    return bool(tops) and all(
        top not in sys.stdlib_module_names and not origin.is_ours(top) and origin.is_installed(top)
        for top in tops
    )
