"""What a top-level statement of a module changes besides the names that it binds.

``@register`` above ``def plug`` binds *plug*, and may put it into a table that somebody else reads.
So what is called while a module is imported (decorators, calls outside of functions, base classes
that note their subclasses) counts as changing everything that it can reach: its own code, and what
that mentions, however many functions away. Where that leads out of the module, to other modules
beside the notebook, it counts as changing anything. Better a step too many than one too few.
"""

from __future__ import annotations

import ast
import builtins
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from lifecycle_magic.digests import origin
from lifecycle_magic.digests.bytecode import Import

__all__ = ["Effects", "imports_in", "reads_of"]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# With these at hand, code gets at any name of its module.
_ANYTHING = frozenset({"globals", "locals", "vars", "exec", "eval", "__import__"})
# A class with one of these words in its module may keep account of its subclasses.
_NOTING = ("__init_subclass__", "__subclasses__", "metaclass")


def reads_of(statement: ast.AST) -> set[str]:
    """The names that a statement mentions, in nested functions too."""
    return {
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def imports_in(tree: ast.AST) -> Iterator[Import]:
    """Every import statement, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, 0, ())
        elif isinstance(node, ast.ImportFrom):
            yield Import(node.module or "", node.level, tuple(alias.name for alias in node.names))


class Effects:
    """The statements of one source file; ``bound`` are those that each name is bound by.

    ``looked_at`` are the other files whose text decided something.
    """

    def __init__(
        self, path: str, body: Sequence[ast.stmt], bound: Mapping[str, Sequence[ast.stmt]]
    ) -> None:
        self.looked_at: set[str] = set()
        self._package = _package(path)
        self._outside: dict[str, bool] = {}
        self._bound = bound
        self._reads = {one: reads_of(one) for one in body}
        self._stars = any("*" in one.names for s in body for one in imports_in(s))
        self._rebound = {
            name for s in body for n in ast.walk(s) if isinstance(n, ast.Global) for name in n.names
        }
        # Functions that something is kept on: ``@shape.register``, ``register.known = []``.
        self._holders = {
            n.value.id
            for s in body
            for n in ast.walk(s)
            if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
        }
        self._notes = any(_mentions(s, _NOTING) for s in body)

    def of(self, statement: ast.stmt) -> set[str] | None:
        """The names whose content it may change when it runs; None if that may be any."""
        if any("*" in one.names for one in imports_in(statement)):
            return None  # it binds nobody knows what
        reached: set[str] = set()
        waiting = set(self._called(statement))
        while waiting:
            name = waiting.pop()
            if name in reached:
                continue
            if name in _ANYTHING or self._is_unknown(name) or self._leads_out(name):
                return None
            reached.add(name)
            waiting |= {read for one in self._bound.get(name, ()) for read in self._reads[one]}
        return {name for name in reached if self._can_change(name)}

    def _called(self, statement: ast.stmt) -> Iterator[str]:
        """The names that stand first in whatever is called when the statement runs."""
        waiting: list[ast.AST] = [statement]
        while waiting:
            node = waiting.pop()
            if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
                yield from _first(node.decorator_list)
            if isinstance(node, ast.ClassDef):
                yield from (name for name in _first(node.bases) if self._is_noting(name))
            if isinstance(node, ast.Call):
                yield from _first([node.func])
            if isinstance(node, _FUNCTIONS):
                # Its body does not run now, its defaults do.
                waiting += [*node.decorator_list, *node.args.defaults]
                waiting += [one for one in node.args.kw_defaults if one is not None]
            elif not isinstance(node, ast.Lambda):
                waiting.extend(ast.iter_child_nodes(node))

    def _is_unknown(self, name: str) -> bool:
        return self._stars and name not in self._bound and not hasattr(builtins, name)

    def _leads_out(self, name: str) -> bool:
        if name not in self._outside:
            self._outside[name] = any(True for _ in self._files(name))
        return self._outside[name]

    def _files(self, name: str) -> Iterator[str]:
        """The source files beside the notebook that a name is imported from."""
        for statement in self._bound.get(name, ()):
            if isinstance(statement, (ast.Import, ast.ImportFrom, ast.Try, ast.If)):
                for found in imports_in(statement):
                    yield from (path for _, path in origin.local_sources(found, self._package))

    def _is_noting(self, base: str) -> bool:
        files = list(self._files(base))
        if not files:
            return self._notes and base in self._bound
        self.looked_at.update(files)
        return any(word in Path(file).read_text("utf-8") for file in files for word in _NOTING)

    def _can_change(self, name: str) -> bool:
        """Whether a name stands for more than a function, an import, or a number or text."""
        statements = self._bound.get(name, ())
        return name in self._rebound or not all(
            isinstance(one, (ast.Import, ast.ImportFrom))
            or (isinstance(one, _FUNCTIONS) and name not in self._holders)
            or (
                isinstance(one, (ast.Assign, ast.AnnAssign)) and isinstance(one.value, ast.Constant)
            )
            for one in statements
        )


def _first(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The name that each of these expressions starts with: ``a`` of ``a.b(1).c``."""
    for node in nodes:
        while isinstance(node, (ast.Attribute, ast.Call, ast.Subscript)):
            node = node.func if isinstance(node, ast.Call) else node.value
        if isinstance(node, ast.Name):
            yield node.id


def _mentions(statement: ast.stmt, words: Iterable[str]) -> bool:
    found = ast.dump(statement)
    return any(repr(word) in found for word in words)


def _package(path: str) -> str:
    """The package that a source file is in, by the folders around it; empty if in none."""
    names: list[str] = []
    folder = os.path.dirname(path)
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder, name = os.path.split(folder)
        names.insert(0, name)
    return ".".join(names)
