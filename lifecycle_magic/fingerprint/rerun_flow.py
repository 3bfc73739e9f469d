"""How the dependence on the place where code runs spreads over the names of a namespace."""

from __future__ import annotations

import ast
import functools
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import FunctionType, ModuleType
from typing import Any

from lifecycle_magic.decorators.classes import is_class, unwrapped
from lifecycle_magic.decorators.travel import is_local
from lifecycle_magic.fingerprint.placed_statements import (
    PlacedStatement,
    imported_modules,
    makers,
    meaning,
)
from lifecycle_magic.wire.code_objects import with_nested_codes

__all__ = ["Flow"]

_IMPORT_ERRORS = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


class Flow:
    """The names that are made again: ``names``, and those that statements lead to from there.

    ``unnamed`` are statements, by their index, that depend on where they run and bind no name.
    """

    def __init__(
        self,
        placed: Sequence[PlacedStatement],
        space: dict[str, Any],
        names: Iterable[str],
        variables: frozenset[str],
        names_of_module: Callable[[str], frozenset[str]],
    ) -> None:
        self._placed, self._space = placed, space
        self._variables = variables
        self._names_of_module = functools.cache(names_of_module)
        self._asking = _asking(space)
        self.names: set[str] = set()
        self.unnamed: tuple[int, ...] = ()
        self._follow()
        self.names.update(names)
        self._add_beside()

    def _follow(self) -> None:
        """Find what depends on where it runs, and all that is computed from it."""
        reached: set[int] = set()
        unnamed: list[int] = []
        before = -1
        while before != len(reached):
            before = len(reached)
            for index, placed in enumerate(self._placed):
                if index in reached or placed.is_excluded or not self._depends(placed):
                    continue
                reached.add(index)
                made = placed.statement.defines | placed.changes
                self.names |= made
                if not made and isinstance(placed.statement.node, ast.If):
                    unnamed.append(index)
        self.unnamed = tuple(sorted(unnamed))

    def _depends(self, placed: PlacedStatement) -> bool:
        statement = placed.statement
        if statement.is_import:
            return self._imports(statement.node)
        return not statement.reads.isdisjoint(self.names) or self._begins(placed)

    def _imports(self, node: ast.stmt) -> bool:
        """Return whether an import binds a name that its module makes in each place anew."""
        if not isinstance(node, ast.ImportFrom) or node.level or not node.module:
            return False
        names = {one.name for one in node.names}
        return not names.isdisjoint(self._names_of_module(node.module))

    def _add_beside(self) -> None:
        """Add the names that are bound by the statements that make the others."""
        before = -1
        while before != len(self.names):
            before = len(self.names)
            for name in list(self.names):
                for index in makers(self._placed, name):
                    self.names |= self._placed[index].statement.defines

    def _begins(self, placed: PlacedStatement) -> bool:
        node, facts = placed.statement.node, placed.facts
        if placed.has_asked or (isinstance(node, ast.Try) and _lacks_import(node)):
            return True
        if not self._variables.isdisjoint(facts.variables) or any(map(self._asks, facts.called)):
            return True
        return any(map(self._is_of_module, facts.attributes))

    def _is_of_module(self, node: ast.Attribute) -> bool:
        """Return whether an attribute is a name that its module makes in each place anew."""
        module = meaning(node.value, self._space)
        return isinstance(module, ModuleType) and node.attr in self._names_of_module(
            module.__name__
        )

    def _asks(self, function: ast.expr) -> bool:
        while isinstance(function, ast.Subscript):  # of a table of functions
            function = function.value
        if isinstance(function, ast.Name):
            return function.id in self._asking
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            module = self._space.get(function.value.id)
            return function.attr == "is_local" and getattr(module, "is_local", None) is is_local
        return False


def _asking(space: dict[str, Any]) -> set[str]:
    """Return the names of functions and classes whose code asks `is_local`, at any distance."""
    asked = {name: set(_code_names(value, space)) for name, value in list(space.items())}
    found = {name for name, value in space.items() if value is is_local}
    before = -1
    while before != len(found):
        before = len(found)
        found |= {
            name
            for name, names in asked.items()
            if names and not names.isdisjoint({"is_local", *found})
        }
    return found


def _code_names(value: Any, space: dict[str, Any]) -> Iterator[str]:
    """Yield the names in the code of a function, a class, or a collection of functions."""
    value = unwrapped(value)
    found: Iterable[Any] = (value,)
    if is_class(value) and value.__module__ == space.get("__name__"):
        found = vars(value).values()
    elif type(value) is dict:
        found = value.values()
    elif type(value) in (list, tuple):
        found = value
    for function in map(unwrapped, list(found)):
        if isinstance(function, FunctionType) and function.__globals__ is space:
            for code in with_nested_codes(function.__code__):
                yield from code.co_names


def _lacks_import(node: ast.Try) -> bool:
    """Return whether a ``try`` imports what this kernel does not have, and handles that."""
    if not any(map(_catches_import_errors, node.handlers)):
        return False
    names = {name for step in node.body for name in imported_modules(step)}
    return any(_is_missing(name.partition(".")[0]) for name in names)


def _catches_import_errors(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(one, ast.Name) and one.id in _IMPORT_ERRORS for one in kinds)


def _is_missing(top: str) -> bool:
    if top in sys.modules:
        return sys.modules[top] is None
    try:
        return importlib.util.find_spec(top) is None
    except (ImportError, ValueError):
        return True
