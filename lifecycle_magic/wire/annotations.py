"""The names in annotations that are texts, as ``from __future__ import annotations`` makes them.

FastAPI looks at what a function's parameters are annotated with, so what those texts name has to
travel with a web method, and counts as something that it reads. The bytecode does not mention it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

from lifecycle_magic.marks import marks_of


def names(function: FunctionType) -> set[str]:
    """The names in the annotations of a web method and of the functions inside of it.

    Empty for any other function: what its annotations name may not exist where it runs.
    """
    marks = marks_of(function)
    if marks is None or marks.web is None or marks.web.kind not in ("fastapi_endpoint", "asgi_app"):
        return set()
    texts = [text for text in _annotations(function).values() if isinstance(text, str)]
    found: set[str] = set()
    for text in (*texts, *_inside(function.__code__)):
        try:
            tree = ast.parse(text, mode="eval")
        except (SyntaxError, ValueError):
            continue  # no annotation, or one that nobody can read
        found.update(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    return found


def _annotations(function: FunctionType) -> dict[str, Any]:
    try:
        return function.__annotations__
    except NameError:  # Python 3.14 looks them up late, and one is not there
        return {}


def _inside(code: CodeType) -> Iterator[str]:
    """Texts of annotations in nested functions: a constant (name, text, name, text, ...)."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _inside(constant)
        elif isinstance(constant, tuple) and all(isinstance(one, str) for one in constant):
            yield from constant[1::2]
