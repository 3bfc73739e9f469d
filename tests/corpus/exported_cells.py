"""Run the cells of a program in the namespace of its exported script."""

from __future__ import annotations

import ast
import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_CODE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def run(namespace: dict[str, Any], cells: Sequence[tuple[str, str]]) -> None:
    """Write what the cells to use show to ``found.json``.

    The others add what the script lacks: it has only what its classes need. ``rest`` is what stands
    beside the classes of a cell with the magic.
    """
    found = []
    for kind, source in cells:
        if kind == "use":
            found.append(_shown(namespace, source))
        else:
            _define(namespace, source, with_classes=kind == "define")
    Path("found.json").write_text(json.dumps(found))


def _define(namespace: dict[str, Any], source: str, *, with_classes: bool) -> None:
    for node in ast.parse(source).body:
        if not with_classes and any(isinstance(one, ast.ClassDef) for one in ast.walk(node)):
            continue
        stored = (one for one in ast.walk(node) if isinstance(one, ast.Name))
        names = [one.id for one in stored if isinstance(one.ctx, ast.Store)]
        names += [one.asname or one.name.partition(".")[0] for one in getattr(node, "names", ())]
        names += [node.name] if isinstance(node, _CODE) else []
        if names and not any(name in namespace for name in names):
            exec(compile(ast.Module([node], []), "<cell>", "exec"), namespace)


def _shown(namespace: dict[str, Any], source: str) -> dict[str, str | None]:
    from IPython.lib.pretty import pretty

    *nodes, last = ast.parse(source).body
    out, error = io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            exec(compile(ast.Module(nodes, []), "<cell>", "exec"), namespace)
            if isinstance(last, ast.Expr) and not source.rstrip().endswith(";"):
                value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace)
                if value is not None:
                    print(pretty(value, max_width=1 << 20))
            else:
                exec(compile(ast.Module([last], []), "<cell>", "exec"), namespace)
        except BaseException as caught:
            error = f"{type(caught).__name__}: {caught}"
    return {"text": out.getvalue(), "error": error, "trace": ""}
