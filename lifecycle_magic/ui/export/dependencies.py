"""The statements of a notebook that some names depend on, in the order in which they ran."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Sequence

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.fingerprint.statements import Statement

__all__ = ["SET_UP", "needed"]

_GIVEN = {*dir(builtins), "__name__", "__doc__", "__file__"} - {"exit", "quit"}
_OF_IPYTHON = {"get_ipython", "In", "Out", "_", "__", "___", "exit", "quit"}
_CODE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_BY_STRING = {"__main__", "eval", "exec", "globals"}
SET_UP = ("sys.path.", "os.environ.")
"""Beginnings of calls that set up what other statements depend on."""
WARNING_FILTERS = ("warnings.filterwarnings(", "warnings.simplefilter(")


def needed(statements: Sequence[Statement], names: Iterable[str]) -> list[Statement]:
    """Return the statements that define ``names``, and all that those depend on.

    Raises `InvalidError` for a name that no cell defines, or that only IPython can define.
    """
    search = _Search(statements)
    for index, one in enumerate(statements):
        if one.text.startswith(WARNING_FILTERS):  # they hold for all code
            search.add(index, len(statements))
    for name in names:
        search.need(name, len(statements), "")
    search.add_found_at_run_time()
    return [statements[index] for index in sorted(search.found)]


class _Search:
    """The statements found so far, by their index."""

    def __init__(self, statements: Sequence[Statement]) -> None:
        self.found: set[int] = set()
        self._statements = statements
        self._seen: set[tuple[int, int]] = set()
        self._known_effects: dict[int, frozenset[str]] = {}
        self._star_imports = [
            index
            for index, one in enumerate(statements)
            if isinstance(one.node, ast.ImportFrom) and one.node.names[0].name == "*"
        ]

    def need(self, name: str, moment: int, reader: str) -> None:
        """Find what defines ``name`` for a reader that runs just before statement ``moment``.

        A function's names are looked up when it is called, so the same name may be needed as it was
        at one moment and as it is at the end.
        """
        if name in _OF_IPYTHON:
            raise InvalidError(
                f"export: {reader or 'a cell'} uses {name}, which exists in IPython only. "
                "Fix: write it without, or leave that line out of the cell"
            )
        chain = self._definitions(name, moment)
        if not chain:
            if name in _GIVEN or self._definitions(name, len(self._statements)):
                return  # if it is defined later, what reads it had not run at that moment
            makers = [i for i, one in enumerate(self._statements) if name in one.makes_later]
            if not makers and not self._star_imports:
                raise InvalidError(_undefined(name, reader))
            chain = makers or self._star_imports
        for index in chain:
            self.add(index, moment)

    def add(self, index: int, moment: int) -> None:
        """Take a statement, and find what it depends on."""
        if (index, moment) in self._seen:
            return
        self._seen.add((index, moment))
        self.found.add(index)
        statement = self._statements[index]
        reader = _title(statement)
        for name in statement.reads:
            self.need(name, index, reader)
        for name in statement.reads_later:
            self.need(name, moment, reader)
        for name in statement.may_read:
            if self._definitions(name, moment):
                self.need(name, moment, reader)

    def add_found_at_run_time(self) -> None:
        """Add what the code finds without its name: subclasses, and names in strings."""
        known = -1
        while known < len(self.found):
            known = len(self.found)
            found = [self._statements[index] for index in self.found]
            if any("__subclasses__" in one.text for one in found):
                self._add_subclasses(
                    {one.node.name for one in found if isinstance(one.node, ast.ClassDef)}
                )
            if any(_BY_STRING & (one.reads | one.reads_later) for one in found):
                self._add_code()

    def _add_subclasses(self, bases: set[str]) -> None:
        for index, one in enumerate(self._statements):
            if isinstance(one.node, ast.ClassDef) and bases & one.runs:
                self.add(index, len(self._statements))

    def _add_code(self) -> None:
        """Add all functions, classes and constants."""
        end = len(self._statements)
        for one in self._statements:
            if isinstance(one.node, _CODE) or _is_constant(one.node):
                for name in one.defines:
                    self.need(name, end, "")

    def _definitions(self, name: str, moment: int) -> list[int]:
        """Return the last definition before ``moment``, what it builds on, and later changes."""
        chain: list[int] = []
        for index in range(min(moment, len(self._statements)) - 1, -1, -1):
            statement = self._statements[index]
            if name in statement.defines:
                chain.append(index)
                if statement.is_certain and name not in statement.reads:
                    return [one for one in chain if self._counts(one, name, statement)]
            elif name in statement.changes | statement.calls | self._effects(index):
                chain.append(index)
        made = [self._statements[index] for index in chain]
        is_defined = any(name in one.defines for one in made)
        return chain if is_defined else []

    def _effects(self, index: int) -> frozenset[str]:
        """Return the names whose objects change in what the statement runs, or that it extends."""
        if index not in self._known_effects:
            statement = self._statements[index]
            seen: set[int] = set()
            found = set(statement.extends)
            names = [(name, index) for name in statement.runs]
            while names:
                name, moment = names.pop()
                for run in self._last_code(name, moment):
                    if run not in seen:
                        seen.add(run)
                        code = self._statements[run]
                        found |= code.changes_later
                        bases = code.runs if isinstance(code.node, ast.ClassDef) else frozenset()
                        names += [(one, moment) for one in code.reads_later | bases]
            self._known_effects[index] = frozenset(found - statement.defines)
        return self._known_effects[index]

    def _last_code(self, name: str, moment: int) -> list[int]:
        """Return the function or class that had the name at a moment; nothing for a value."""
        for index in range(moment - 1, -1, -1):
            one = self._statements[index]
            if name in one.defines:
                return [index] if isinstance(one.node, _CODE) else []
        return []

    def _counts(self, index: int, name: str, definition: Statement) -> bool:
        """Return whether a statement matters to the value that ``definition`` gave the name."""
        statement = self._statements[index]
        if name in statement.defines | statement.changes:
            return True
        if name in self._effects(index):
            return not definition.is_import and not _makes_app(definition.node)
        if definition.is_import:
            return statement.text.startswith(SET_UP)
        return not isinstance(definition.node, _CODE) and not _is_constant(definition.node)


def _is_constant(node: ast.stmt) -> bool:
    """Return whether a statement assigns what no call changes: a number, a text, an app."""
    value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
    if isinstance(value, (ast.Constant, ast.JoinedStr)):
        return True
    if isinstance(value, ast.Tuple):
        return all(isinstance(one, ast.Constant) for one in value.elts)
    return _makes_app(node)  # app.stop() is no part of the app


def _makes_app(node: ast.stmt) -> bool:
    call = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
    function = call.func if isinstance(call, ast.Call) else None
    return getattr(function, "attr", getattr(function, "id", "")) == "App"


def _title(statement: Statement) -> str:
    """Return the name of a function or class, or the statement's first line."""
    return getattr(statement.node, "name", "") or statement.text.strip().partition("\n")[0]


def _undefined(name: str, reader: str) -> str:
    if not reader:
        return f"export: no cell defines {name}. Fix: run the cell that does"
    return (
        f"export: {reader} reads {name}, and no cell of this session defines it. "
        f"Fix: define {name} in a cell, and run it"
    )
