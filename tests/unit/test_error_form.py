"""Errors name their fix in one form: what happened, then ``Fix:`` and what to write or run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import lifecycle_magic

ROOT = Path(lifecycle_magic.__file__).parent
ADVICE = re.compile(
    r"[:;,.]\s+(add|check|choose|give|install|lower|make|name|pip install|put|raise|remove|run|set"
    r"|start|switch|try|update|use|write)\s",
)
"""A command after a colon or a stop: advice, which belongs behind ``Fix:``."""

MAKERS = re.compile(r"\w*(Error|Unavailable|Timeout|Died|Cancelled)|refusal")


def _string(node: ast.expr) -> str:
    """Return the words of a literal; values in it are an ellipsis."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_string(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return _string(node.left) + _string(node.right)
    return "…"


def _messages(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if MAKERS.fullmatch(name):
                yield from ((one.lineno, _string(one)) for one in node.args)


def _advice_without_fix(source: str) -> list[str]:
    return [
        f"{line}: {text}"
        for line, text in _messages(source)
        if ADVICE.search(text.partition("Fix:")[0])
    ]


def test_advice_before_fix_is_found() -> None:
    bad = 'raise InvalidError(f"{name} is too old: use {other}")'
    good = 'raise InvalidError(f"{name} is too old. Fix: use {other}")'
    assert _advice_without_fix(bad) == ["1: … is too old: use …"]
    assert not _advice_without_fix(good)


def test_every_error_says_its_fix_after_the_word_fix() -> None:
    files = sorted(ROOT.rglob("*.py"))
    assert len(files) > 100, "the tree was not found"
    hits = [
        f"{path.relative_to(ROOT)}:{hit}"
        for path in files
        for hit in _advice_without_fix(path.read_text())
    ]
    assert not hits, "\n".join(hits)
