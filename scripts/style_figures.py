"""Figures of the code's form; docs/architecture.md lists them."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1] / "lifecycle_magic"
QUESTION = re.compile(r"(what|whether|how|who)\b", re.IGNORECASE)
PUZZLING = re.compile(r"\b(told|tells|whoever|nobody|somebody|mend|for people)\b", re.IGNORECASE)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def private_imports(tree: ast.AST) -> Iterator[str]:
    """Yield the private names that a module imports from another one of the package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lifecycle_magic"):
            yield from (one.name for one in node.names if one.name.startswith("_"))


def share(part: int, whole: int) -> str:
    """Return a part of a whole as a percentage."""
    return f"{100 * part / whole:.1f} %"


def figures() -> dict[str, str]:
    """Return the figures by what they count."""
    sizes, private, lengths, docs = [], 0, [], []
    for path in sorted(ROOT.rglob("*.py")):
        text = path.read_text()
        tree = ast.parse(text)
        sizes.append(len(text.splitlines()))
        private += len(list(private_imports(tree)))
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                # as a reader counts: the body, without its docstring
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
                lengths.append(lines)
            if isinstance(node, DOCUMENTED) and (doc := ast.get_docstring(node)):
                docs.append(doc)
    ordered = sorted(lengths)
    questions = sum(bool(QUESTION.match(doc)) for doc in docs)
    puzzling = sum(bool(PUZZLING.search(doc)) for doc in docs)
    return {
        "modules": f"{len(sizes)}",
        "lines of a module, median and most": f"{statistics.median(sizes):.0f}, {max(sizes)}",
        "modules above 400 lines": f"{sum(size > 400 for size in sizes)}",
        "functions": f"{len(lengths)}",
        "lines of a function's body, median, 95 % and most": (
            f"{statistics.median(lengths):.0f}, {ordered[len(ordered) * 95 // 100]}, {ordered[-1]}"
        ),
        "imports of private names from another module": f"{private}",
        "docstrings": f"{len(docs)}",
        "docstrings that begin with *what*, *whether*, *how* or *who*": share(questions, len(docs)),
        "docstrings with words that puzzle readers": share(puzzling, len(docs)),
    }


if __name__ == "__main__":
    for what, figure in figures().items():
        print(f"| {what} | {figure} |")
