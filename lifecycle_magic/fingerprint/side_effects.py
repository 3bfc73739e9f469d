"""Side effects of a top-level statement: changes besides the names that it binds.

``@register`` above ``def plug`` binds *plug*, and may also store it in a table that other code
reads. So a call that runs while a module is imported (a decorator, a call outside of functions, a
base class that registers its subclasses) counts as changing everything that it can reach: its own
code and what that code mentions, however many functions away. If that leads to other modules next
to the notebook, the call counts as changing anything. One build step too many is better than one
too few.
"""

from __future__ import annotations

import ast
import builtins
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from lifecycle_magic.fingerprint import origin
from lifecycle_magic.fingerprint.bytecode import Import

__all__ = ["SideEffects", "imports_in", "reads_of"]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# With these, code can reach any name of its module.
_ANYTHING = frozenset({"globals", "locals", "vars", "exec", "eval", "__import__"})
# A class with one of these words in its module may register its subclasses.
_REGISTERING = ("__init_subclass__", "__subclasses__", "metaclass")


def reads_of(statement: ast.AST) -> set[str]:
    """Return the names that a statement mentions, also in nested functions."""
    return {
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def imports_in(tree: ast.AST) -> Iterator[Import]:
    """Yield every import statement, wherever it is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, 0, ())
        elif isinstance(node, ast.ImportFrom):
            yield Import(node.module or "", node.level, tuple(alias.name for alias in node.names))


class SideEffects:
    """The side effects of the statements in one source file.

    ``bound`` are the statements that bind each name. ``files_read`` are the other files whose
    content influenced a result.
    """

    def __init__(
        self, path: str, body: Sequence[ast.stmt], bound: Mapping[str, Sequence[ast.stmt]]
    ) -> None:
        self.files_read: set[str] = set()
        self._package = _package(path)
        self._outside: dict[str, bool] = {}
        self._bound = bound
        self._reads = {one: reads_of(one) for one in body}
        self._stars = any("*" in one.names for s in body for one in imports_in(s))
        self._rebound = {
            name for s in body for n in ast.walk(s) if isinstance(n, ast.Global) for name in n.names
        }
        # Functions with attributes: ``@shape.register``, ``register.known = []``.
        self._holders = {
            n.value.id
            for s in body
            for n in ast.walk(s)
            if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
        }
        self._registers = any(_mentions(s, _REGISTERING) for s in body)

    def changed_by(self, statement: ast.stmt) -> set[str] | None:
        """Return the names whose content a statement may change when it runs; None if it may be
        any.
        """
        if any("*" in one.names for one in imports_in(statement)):
            return None  # the names that it binds are unknown
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
        """Yield the first name of every expression that is called when the statement runs."""
        waiting: list[ast.AST] = [statement]
        while waiting:
            node = waiting.pop()
            if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
                yield from _first_names(node.decorator_list)
            if isinstance(node, ast.ClassDef):
                for name in _first_names(node.bases):
                    self.files_read.update(self._imported_files(name))
                    if self._is_registering(name):
                        yield name
            if isinstance(node, ast.Call):
                yield from _first_names([node.func])
            if isinstance(node, _FUNCTIONS):
                # The body does not run now, but the defaults do.
                waiting += [*node.decorator_list, *node.args.defaults]
                waiting += [one for one in node.args.kw_defaults if one is not None]
            elif not isinstance(node, ast.Lambda):
                waiting.extend(ast.iter_child_nodes(node))

    def _is_unknown(self, name: str) -> bool:
        return self._stars and name not in self._bound and not hasattr(builtins, name)

    def _leads_out(self, name: str) -> bool:
        if name not in self._outside:
            self._outside[name] = any(True for _ in self._imported_files(name))
        return self._outside[name]

    def _imported_files(self, name: str) -> Iterator[str]:
        """Yield the source files next to the notebook that a name is imported from."""
        for statement in self._bound.get(name, ()):
            if isinstance(statement, (ast.Import, ast.ImportFrom, ast.Try, ast.If)):
                for found in imports_in(statement):
                    yield from (path for _, path in origin.local_sources(found, self._package))

    def _is_registering(self, base: str) -> bool:
        files = list(self._imported_files(base))
        if not files:
            return self._registers and base in self._bound
        return any(word in Path(file).read_text("utf-8") for file in files for word in _REGISTERING)

    def _can_change(self, name: str) -> bool:
        """Return whether a name is more than a function, an import, a number or a string."""
        statements = self._bound.get(name, ())
        return name in self._rebound or not all(
            isinstance(one, (ast.Import, ast.ImportFrom))
            or (isinstance(one, _FUNCTIONS) and name not in self._holders)
            or (
                isinstance(one, (ast.Assign, ast.AnnAssign)) and isinstance(one.value, ast.Constant)
            )
            for one in statements
        )


def _first_names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the name that each of these expressions starts with: ``a`` of ``a.b(1).c``."""
    for node in nodes:
        while isinstance(node, (ast.Attribute, ast.Call, ast.Subscript)):
            node = node.func if isinstance(node, ast.Call) else node.value
        if isinstance(node, ast.Name):
            yield node.id


def _mentions(statement: ast.stmt, words: Iterable[str]) -> bool:
    found = ast.dump(statement)
    return any(repr(word) in found for word in words)


def _package(path: str) -> str:
    """Return the package that a source file is in, by its folders; empty if there is none."""
    names: list[str] = []
    folder = os.path.dirname(path)
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder, name = os.path.split(folder)
        names.insert(0, name)
    return ".".join(names)
