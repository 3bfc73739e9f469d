"""Arguments whose value decides what becomes of a call."""

from __future__ import annotations

import ast
from collections.abc import Iterator

__all__ = ["is_default", "refused_arguments"]

_MINORS = tuple(f"3.{minor}" for minor in range(10, 15))


def is_default(value: ast.expr, owner: str) -> bool:
    """Return whether a keyword has a value that means "not given", as the check of it says."""
    if not isinstance(value, ast.Constant):
        return isinstance(value, ast.List | ast.Tuple) and not value.elts and owner != "options"
    return value.value is None or (value.value is False and owner != "options")


def refused_arguments(where: str, node: ast.Call) -> Iterator[tuple[ast.expr, str, str]]:
    """Yield arguments that are refused: the place, the call as it is shown, and the fix."""
    first = node.args[0] if node.args else None
    named = {one.arg: one.value for one in node.keywords}
    if where in ("Image.entrypoint", "Image.cmd"):
        given = first or named.get("entrypoint_commands") or named.get("cmd")
        if isinstance(given, ast.List) and given.elts:
            note = "a container runs the class. Fix: start it in an @enter hook"
            yield node.func, f"{where}([...])", note
    if where == "Image.copy_mount":
        path = named.get("remote_path", node.args[1] if len(node.args) > 1 else None)
        if isinstance(path, ast.Constant) and path.value not in (".", "./", "/"):
            note = "a mount has the paths that it was made with. Fix: use add_local_dir(...)"
            yield path, f"{where}(remote_path=)", note
    version = named.get("add_python")
    if where in ("Image.debian_slim", "Image.micromamba"):
        version = named.get("python_version", first)
    if not isinstance(version, ast.Constant) or not isinstance(version.value, str):
        return
    if ".".join(version.value.split(".")[:2]) not in _MINORS:
        note = f"use a Python from {_MINORS[0]} to {_MINORS[-1]}"
        yield version, f"{where}({version.value!r})", note
