"""A function whose name asks a question, or a property, changes nothing that its caller can see."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import lifecycle_magic

ROOT = Path(lifecycle_magic.__file__).parent
QUESTION = re.compile(r"_*(is|has|can|may|must|should|needs|does|was|were|will)_")
CHANGES = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popleft"),
    *("remove", "setdefault", "update", "put", "send", "set", "start", "stop", "end", "kill"),
    *("close", "cancel", "release"),
}

# Properties that make what they return on first use, and keep it.
KEPT = {
    "callers/function_call.py:object_id",
    "engines/docker/profile.py:transport",
    "guest/output.py:buffer",
    "guest/standard_input.py:buffer",
    "named/handles.py:_calls",
    "session/registry.py:spec",
    "session/served_calls.py:circle_watch",
    "session/served_calls.py:container_calls",
    "session/served_calls.py:kept_calls",
    "session/served_calls.py:peer_calls",
    "threads/event_loop.py:reply_loop",
    "ui/notebook/drafts.py:spec",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def questions(tree: ast.AST) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            made = [ast.unparse(one) for one in node.decorator_list]
            if QUESTION.match(node.name) or "property" in made:
                yield node


def changes(function: Function) -> Iterator[str]:
    """Yield the statements of a function that change one of its arguments, or a global."""
    given = {one.arg for one in function.args.args}
    for node in ast.walk(function):
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            yield ast.unparse(node)
        targets: list[ast.expr] = []
        if isinstance(node, (ast.Assign, ast.Delete)):
            targets = node.targets
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
            targets = [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            targets = [node.func] if node.func.attr in CHANGES else []
        for target in targets:
            for one in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(one, (ast.Attribute, ast.Subscript)) and _root(one) in given:
                    yield ast.unparse(node)


def _root(node: ast.expr) -> str:
    """Return the name that an expression starts with."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.name)
def test_a_question_changes_nothing(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    found = {
        f"{name}:{function.name}": changed
        for function in questions(ast.parse(path.read_text()))
        if (changed := list(changes(function)))
    }
    assert not set(found) - KEPT, found


def test_the_check_finds_a_question_that_acts() -> None:
    acts = "def is_ready(self):\n    self.asked += 1\n    self.log.append(1)\n    return True\n"
    [function] = questions(ast.parse(acts))
    assert list(changes(function)) == ["self.asked += 1", "self.log.append(1)"]
