"""The source text of a class, found by its functions: a notebook's module has no file."""

from __future__ import annotations

import ast
import linecache
import textwrap
from types import FunctionType

from lifecycle_magic.decorators.classes import unwrapped

__all__ = ["in_text", "of"]


def of(cls: type) -> str:
    """Return the source of a class or of the function that it was made of, with its decorators.

    Empty if it is not known.
    """
    for value in vars(cls).values():
        function = unwrapped(value)
        if not isinstance(function, FunctionType):
            continue
        lines = linecache.getlines(function.__code__.co_filename)
        name = cls.__name__
        found = in_text("".join(lines), name, function.__code__.co_firstlineno)
        if found:
            return found
    return ""


def in_text(text: str, name: str, line: int | None = None) -> str:
    """Return the last definition of a class or function in a program; empty without one.

    ``line``: only a definition that has this line in it.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return ""
    found = ""
    for node in ast.walk(tree):
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
        if node.name == name and (line is None or first <= line <= (node.end_lineno or first)):
            lines = text.splitlines()[first - 1 : node.end_lineno]
            found = textwrap.dedent("\n".join(lines)) + "\n"
    return found
