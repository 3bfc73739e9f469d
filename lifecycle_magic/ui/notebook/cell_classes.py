"""The rewriting of a cell so that each class statement at its top level declares its class.

Each class statement, also inside ``if``, ``for``, ``try`` and ``with``, gets a hidden outermost
decorator. Each call whose result is assigned to a plain name is wrapped in a hidden call, for
classes that a function returns. Both have the source position of the user's own code, so
tracebacks, ``inspect`` and line numbers do not change.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["DeclarationRewriter", "declaring"]

NAME = "__lifecycle_declare__"
"""The name of the hidden decorator in the namespace while the cell runs."""


class DeclarationRewriter(ast.NodeTransformer):
    """A rewriter of the statements at a cell's top level; function bodies stay unchanged."""

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        place = node.decorator_list[0] if node.decorator_list else node
        end = place.col_offset + len("class")
        node.decorator_list.insert(0, _name(place.lineno, place.col_offset, end))
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        if isinstance(node.value, ast.Call) and len(names) == len(node.targets):
            value = node.value
            function = _name(value.lineno, value.col_offset, value.col_offset)
            given = [ast.copy_location(ast.Constant(name), value) for name in names]
            wrapped = ast.Call(func=function, args=[value, *given], keywords=[])
            node.value = ast.copy_location(wrapped, value)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return node


def _name(line: int, start: int, end: int) -> ast.Name:
    return ast.Name(
        id=NAME,
        ctx=ast.Load(),
        lineno=line,
        end_lineno=line,
        col_offset=start,
        end_col_offset=end,
    )


@contextlib.contextmanager
def declaring(shell: Any, declare: Callable[..., Any]) -> Iterator[None]:
    """Rewrite each cell that ``shell`` compiles in the ``with`` block, so that ``declare`` gets its
    classes. This includes the cells of other cell magics below ours.
    """
    namespace, transformer = shell.user_ns, DeclarationRewriter()
    namespace[NAME] = declare
    shell.ast_transformers.append(transformer)
    try:
        yield
    finally:
        namespace.pop(NAME, None)
        with contextlib.suppress(ValueError):  # IPython removes a transformer that failed
            shell.ast_transformers.remove(transformer)
