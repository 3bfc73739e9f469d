"""An exported script for Modal, where nothing in it is this package's alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.modal_api.table import find

__all__ = ["for_modal"]

_PACKAGE = "lifecycle_magic"
_OWNERS = {"App", "Cls", "Dict", "Function", "Image", "Queue", "Secret", "Volume"}


def for_modal(text: str) -> str:
    """Return the script with ``import modal``, and with ``.remote.aio`` where a call is awaited.

    Raises `InvalidError` that names what Modal does not have.

    >>> print(for_modal("import lifecycle_magic as lm\\nawait f.remote(1)"), end="")
    import modal as lm
    await f.remote.aio(1)
    """
    tree = ast.parse(text)
    aliases = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == _PACKAGE
    }
    ours = list(dict.fromkeys(_ours_alone(tree, aliases)))
    if ours:
        raise InvalidError(
            f"export --modal: Modal has no {', '.join(ours)}. Fix: export without --modal, or "
            "declare the class without"
        )
    lines = [line.encode() for line in text.splitlines()]
    for line, column, old, new in sorted(_changes(tree), reverse=True):
        before = lines[line - 1]
        lines[line - 1] = before[:column] + new + before[column + len(old) :]
    return b"\n".join(lines).decode() + "\n"


def _ours_alone(tree: ast.Module, aliases: set[str]) -> Iterator[str]:
    """Yield what only this package has: names, members of its objects, options."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == _PACKAGE:
            for alias in node.names:
                if not _is_known("modal", alias.name):
                    yield alias.name
        elif isinstance(node, ast.Attribute):
            value = node.value
            if isinstance(value, ast.Name) and value.id in aliases:
                if not _is_known("modal", node.attr):
                    yield f"{value.id}.{node.attr}"
            elif (
                isinstance(value, ast.Attribute)
                and isinstance(value.value, ast.Name)
                and value.value.id in aliases
                and value.attr in _OWNERS
                and not _is_known(value.attr, node.attr)
            ):
                yield f"{value.attr}.{node.attr}"
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("cls", "function"):
            for keyword in node.keywords:
                if keyword.arg and not _is_known("options", f"{keyword.arg}="):
                    yield f"{keyword.arg}="


def _is_known(owner: str, name: str) -> bool:
    found = find(owner, name)
    return found is not None and found.verdict != "refused"


def _changes(tree: ast.Module) -> Iterator[tuple[int, int, bytes, bytes]]:
    """Yield the changes: line, column in bytes, and the old and the new text there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == _PACKAGE:
                    new = b"modal" if alias.asname else f"modal as {_PACKAGE}".encode()
                    yield alias.lineno, alias.col_offset, _PACKAGE.encode(), new
        elif isinstance(node, ast.ImportFrom) and node.module == _PACKAGE:
            yield node.lineno, node.col_offset + len("from "), _PACKAGE.encode(), b"modal"
        elif isinstance(node, ast.Await) and isinstance(node.value, ast.Call):
            function = node.value.func
            if isinstance(function, ast.Attribute) and function.attr == "remote":
                assert function.end_lineno is not None
                assert function.end_col_offset is not None
                yield function.end_lineno, function.end_col_offset, b"", b".aio"
