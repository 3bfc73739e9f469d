"""The top-level statements of cells, and the names that each defines, changes and reads."""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterator
from dataclasses import dataclass, field

from lifecycle_magic.decorators.hooks import CALL_FORMS

__all__ = ["Cell", "Statement", "executed", "read", "root"]

_RUN_AT_ONCE = {"listcomp", "setcomp", "dictcomp", "genexpr", "lambda"}
"""Scopes that are functions to Python, but whose code often runs with the statement around them."""

_MAY_NOT_RUN = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Match)
_BODIES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


_CHANGE_NOTHING = {
    *("abs", "all", "any", "bool", "bytes", "dict", "display", "enumerate", "filter", "float"),
    *("format", "frozenset", "hash", "help", "id", "int", "isinstance", "issubclass", "len"),
    *("list", "map", "max", "min", "print", "range", "repr", "reversed", "round", "set"),
    *("sorted", "str", "sum", "tuple", "type", "zip"),
}
_CHANGING_METHODS = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem"),
    *("register", "remove", "reverse", "setdefault", "sort", "update"),
}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_OF_CLASSES = {
    "__call__",
    "__init__",
    "__init_subclass__",
    "__new__",
    "__post_init__",
    "__prepare__",
}
_POSTPONED = "from __future__ import annotations"


@dataclass(frozen=True)
class Cell:
    """One cell as it was run: its Python source, and the line of ``%%lifecycle_cls`` if it has one.

    ``options`` is None for a cell without the magic.
    """

    source: str
    options: str | None = None


@dataclass(frozen=True)
class Statement:
    """A statement at a cell's top level.

    ``reads`` are the names that it needs when it runs; ``reads_later`` are those that functions in
    it need when they are called, and ``may_read`` those of postponed annotations. ``changes`` are
    the names into whose objects it assigns, and ``calls`` those whose objects a call may change.
    ``is_certain`` is false for a definition that may not run, as in an ``if``.

    ``runs`` are the names of functions and classes that it calls, decorates with or derives from,
    and ``extends`` those whose attribute it decorates with: ``@show.register``. ``changes_later``
    are the names into whose objects functions in it assign when they run, or which they bind:
    ``makes_later``.
    """

    text: str
    node: ast.stmt
    options: str | None
    defines: frozenset[str]
    changes: frozenset[str]
    calls: frozenset[str]
    reads: frozenset[str]
    reads_later: frozenset[str]
    may_read: frozenset[str]
    is_certain: bool
    runs: frozenset[str] = frozenset()
    extends: frozenset[str] = frozenset()
    changes_later: frozenset[str] = frozenset()
    makes_later: frozenset[str] = frozenset()

    @property
    def is_future(self) -> bool:
        """True for ``from __future__ import ...``."""
        return isinstance(self.node, ast.ImportFrom) and self.node.module == "__future__"

    @property
    def is_import(self) -> bool:
        """True for ``import`` and ``from ... import``."""
        return isinstance(self.node, (ast.Import, ast.ImportFrom))


def read(cells: list[Cell]) -> list[Statement]:
    """Return the statements of all cells, in the order in which they ran.

    A cell that is no valid Python has none: it could not run.

    >>> [sorted(one.defines) for one in read([Cell("import numpy as np\\nx, y = np.ones(2)")])]
    [['np'], ['x', 'y']]
    """
    found: list[Statement] = []
    for cell in cells:
        # IPython goes on with the flags of a former cell.
        is_postponed = any(one.is_future and "annotations" in one.text for one in found)
        found += _of_cell(cell, is_postponed or _POSTPONED in cell.source)
    return found


def _of_cell(cell: Cell, is_postponed: bool) -> Iterator[Statement]:
    try:
        tree = ast.parse(cell.source)
    except (SyntaxError, ValueError):
        return
    lines = cell.source.splitlines()
    above = 0  # the last line of the statement above
    for index, node in enumerate(tree.body):
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
        last = node.end_lineno or node.lineno
        following = tree.body[index + 1].lineno if index + 1 < len(tree.body) else last + 1
        if first == above or following == last:  # it shares a line with another statement
            text = ast.get_source_segment(cell.source, node) or ""
        else:
            comments = first
            while comments - 1 > above and lines[comments - 2].startswith("#"):
                comments -= 1
            text = "\n".join(lines[comments - 1 : last])
        above = last
        yield _statement(text, node, cell.options, is_postponed)


def _statement(text: str, node: ast.stmt, options: str | None, is_postponed: bool) -> Statement:
    names = _Names()
    names.add(symtable.symtable(text, "<cell>", "exec"), later=False)
    if is_postponed:
        evaluated = _Names()
        head = _POSTPONED + "\n" if not text.startswith("from __future__") else ""
        evaluated.add(symtable.symtable(head + text, "<cell>", "exec"), later=False)
        names.may_read |= names.read - evaluated.read | names.read_later - evaluated.read_later
        names.read &= evaluated.read
        names.read_later &= evaluated.read_later
    defined = frozenset(names.defined)
    return Statement(
        text,
        node,
        options,
        defined,
        frozenset(_assigned_into(node)) - defined,
        frozenset(_called_on(node)) - defined,
        frozenset(names.read),
        frozenset(names.read_later),
        frozenset(names.may_read),
        not isinstance(node, (*_MAY_NOT_RUN, ast.AugAssign)),
        frozenset(_run_by(node)),
        frozenset(_extended_by(node)),
        frozenset(_changed_by_functions(node)) & names.read_later | names.made_later,
        frozenset(names.made_later),
    )


@dataclass
class _Names:
    """The global names of a statement, collected from the compiler's own tables."""

    defined: set[str] = field(default_factory=set)
    read: set[str] = field(default_factory=set)
    read_later: set[str] = field(default_factory=set)
    may_read: set[str] = field(default_factory=set)
    made_later: set[str] = field(default_factory=set)

    def add(self, table: symtable.SymbolTable, *, later: bool) -> None:
        """Add the names of one scope and of the scopes inside."""
        is_top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if is_top and (symbol.is_assigned() or symbol.is_imported()):
                self.defined.add(symbol.get_name())
            elif symbol.is_declared_global() and (symbol.is_assigned() or symbol.is_imported()):
                self.made_later.add(symbol.get_name())
            if symbol.is_referenced() and (is_top or symbol.is_global()):
                (self.read_later if later else self.read).add(symbol.get_name())
        for child in table.get_children():
            if (
                "annotation" in str(child.get_type()).lower()
            ):  # Python 3.14 evaluates them on demand
                inner = _Names()
                inner.add(child, later=False)
                self.may_read |= inner.read | inner.read_later
                continue
            is_function = child.get_type() == "function"
            self.add(child, later=later or (is_function and child.get_name() not in _RUN_AT_ONCE))
            if child.get_name() == "lambda":
                self.add(child, later=True)


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run with a statement: no bodies of functions and classes."""
    yield node
    if not isinstance(node, _BODIES):
        for child in ast.iter_child_nodes(node):
            yield from executed(child)


def _assigned_into(statement: ast.stmt) -> Iterator[str]:
    """Yield the names into whose objects a statement assigns: ``x[0] = 1``, ``del x.a``."""
    for node in executed(statement):
        if isinstance(node, (ast.Subscript, ast.Attribute)) and not isinstance(node.ctx, ast.Load):
            yield from root(node)


def _called_on(statement: ast.stmt) -> Iterator[str]:
    """Yield the names whose objects may change in a call: ``x.add(1)``, ``shuffle(x)``.

    Builtins that change nothing are left out, and calls in a container, which get copies.
    """
    for node in executed(statement):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Name) and function.id in _CHANGE_NOTHING:
            continue
        if isinstance(function, ast.Attribute):
            if function.attr in CALL_FORMS:
                continue
            yield from root(function)
        for argument in (*node.args, *(one.value for one in node.keywords)):
            inner = argument.value if isinstance(argument, ast.Starred) else argument
            if isinstance(inner, ast.Name):
                yield inner.id
            yield from root(inner)


def _run_by(statement: ast.stmt) -> Iterator[str]:
    """Yield the names of what a statement calls, decorates with or derives from."""
    parts: list[ast.AST] = [*getattr(statement, "decorator_list", ()), statement]
    if isinstance(statement, ast.ClassDef):
        parts += [*statement.bases, *(one.value for one in statement.keywords)]
    for part in parts:
        if isinstance(part, ast.Name):
            yield part.id
        for node in executed(part):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                yield node.func.id


def _extended_by(statement: ast.stmt) -> Iterator[str]:
    """Yield the name at the left end of each decorator with a dot: ``@show.register(int)``."""
    for one in getattr(statement, "decorator_list", ()):
        yield from root(one.func if isinstance(one, ast.Call) else one)


def _changed_by_functions(statement: ast.stmt) -> Iterator[str]:
    """Yield the names into whose objects the functions of a statement assign when they run.

    Of a class that are the functions which run when it is derived from or called.
    """
    functions: list[ast.AST] = [statement] if isinstance(statement, _FUNCTIONS) else []
    if isinstance(statement, ast.ClassDef):
        functions += [one for one in statement.body if getattr(one, "name", "") in _OF_CLASSES]
    for node in (node for function in functions for node in ast.walk(function)):
        if isinstance(node, (ast.Subscript, ast.Attribute)) and not isinstance(node.ctx, ast.Load):
            yield from root(node)
        elif isinstance(node, ast.Call) and _last(node.func) in _CHANGING_METHODS:
            yield from root(node.func)


def _last(node: ast.AST) -> str:
    """Return ``c`` of ``a.b.c``; an empty string for anything else."""
    return node.attr if isinstance(node, ast.Attribute) else ""


def root(node: ast.AST) -> Iterator[str]:
    """Yield the name at the left end of ``name.attribute[index]``; nothing for a bare name."""
    inner = node
    while isinstance(inner, (ast.Subscript, ast.Attribute)):
        inner = inner.value
    if isinstance(inner, ast.Name) and inner is not node:
        yield inner.id
