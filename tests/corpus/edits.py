"""Random edits: small, meaningful changes of a program's cells.

Each edit takes a program's cells and numbers that say what to pick, and returns steps. The plain
run computes what must come out, so an edit needs no expected values.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Iterator

from corpus.program import Action, Program, Step

Pick = Callable[[int], int]
"""Return a number below the one given."""


def with_random_edits(program: Program, pick: Pick, count: int) -> Program:
    """The program with ``count`` random edits as its only steps."""
    texts = {cell.name: cell.text for cell in program.cells}
    steps = []
    for number in range(count):
        actions = _edit(program, texts, pick)
        runs = [Action("run", cell.name) for cell in program.cells if not cell.declares]
        title = f"edit {number}: {', '.join(f'{one.kind} {one.name}' for one in actions)}"
        steps.append(Step(title, (*actions, *runs)))
    return dataclasses.replace(program, steps=tuple(steps))


def editable(program: Program) -> bool:
    """Whether every cell may be run in any number: programs that say so cannot."""
    return program.runs_again and not program.words("differs")


def _edit(program: Program, texts: dict[str, str], pick: Pick) -> list[Action]:
    """One edit of a cell, or a run of one, then the declaring cells below it."""
    names = [cell.name for cell in program.cells]
    cell = names[pick(len(names))]
    kinds = [_run, _constant, _constant, _layout, _local, _helper, _method, _statement]
    changed = kinds[pick(len(kinds))](texts[cell], pick)
    actions = []
    if changed is None or not _compiles(changed):
        actions.append(Action("run", cell))
    else:
        texts[cell] = changed
        actions.append(Action("edit", cell, changed))
    below = names[names.index(cell) + 1 :]
    declaring = {one.name for one in program.cells if one.declares}
    return [*actions, *(Action("run", name) for name in below if name in declaring)]


# --- kinds of edits: each returns another text, or None where there is nothing to edit


def _run(text: str, pick: Pick) -> None:
    """Run the cell as it is."""


def _constant(text: str, pick: Pick) -> str | None:
    """Another number or string, of those that the cell has; never in a magic's line."""
    found = [
        node
        for node in _nodes(text, ast.Constant)
        if type(node.value) in (int, str) and node.col_offset >= 4 and _may_change(node)
    ]
    if not found:
        return None
    node = found[pick(len(found))]
    value = node.value + 1 if isinstance(node.value, int) else node.value + "x"
    return _replaced(text, node, repr(value))


def _layout(text: str, pick: Pick) -> str | None:
    """A comment above a function."""
    return _above(text, pick, "# a comment")


def _local(text: str, pick: Pick) -> str | None:
    """One more local variable at the beginning of a function."""
    return _inside(text, pick, f"corpus_local = {pick(9)}")


def _statement(text: str, pick: Pick) -> str | None:
    """A statement that calls something at the beginning of a function."""
    return _inside(text, pick, f"corpus_size = len(range({pick(9)}))")


def _helper(text: str, pick: Pick) -> str | None:
    """A helper at the end of the cell, that nothing calls."""
    if "%%" not in text or "class " not in text:
        return None
    return text + f"\ndef corpus_helper(x):\n    return x + {pick(9)}\n"


def _method(text: str, pick: Pick) -> str | None:
    """A method more at the end of a class whose body ends the cell."""
    lines = text.rstrip().splitlines()
    if "class " not in text or not lines[-1].startswith("        "):
        return None
    return text.rstrip() + f"\n\n    def corpus_method(self):\n        return {pick(9)}\n"


# --- where things are in a cell


def _python(text: str) -> str:
    """The cell with lines of magics made comments, so that every line keeps its number."""
    return "".join(
        ("#" + line[1:]) if line.startswith(("%", "!")) else line
        for line in text.splitlines(keepends=True)
    )


def _compiles(text: str) -> bool:
    try:
        compile(_python(text), "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError:
        return False
    return True


def _nodes(text: str, kind: type[ast.AST]) -> list[ast.AST]:
    try:
        tree = ast.parse(_python(text))
    except SyntaxError:
        return []  # a shell line that assigns, say
    for parent in ast.walk(tree):
        for child in ast.iter_child_nodes(parent):
            child.parent = parent  # type: ignore[attr-defined]
    return [node for node in ast.walk(tree) if isinstance(node, kind)]


def _may_change(node: ast.AST) -> bool:
    """Whether a constant stands in ordinary code: no f-string, annotation, import or docstring."""
    above: ast.AST | None = node
    calm = True
    while above is not None:
        above = getattr(above, "parent", None)
        if isinstance(above, (ast.JoinedStr, ast.arg, ast.AnnAssign, ast.Subscript, ast.keyword)):
            calm = False
        if isinstance(above, ast.Expr) and above.value is node:
            calm = False
        if isinstance(above, ast.Call) and node in above.args:
            calm = False  # a path, a mode, a name of a library
    return calm


def _replaced(text: str, node: ast.AST, new: str) -> str | None:
    if node.lineno != node.end_lineno:  # type: ignore[attr-defined]
        return None
    lines = text.splitlines(keepends=True)
    line = lines[node.lineno - 1].encode()  # type: ignore[attr-defined]
    start, end = node.col_offset, node.end_col_offset  # type: ignore[attr-defined]
    lines[node.lineno - 1] = (line[:start] + new.encode() + line[end:]).decode()  # type: ignore[attr-defined]
    return "".join(lines)


def _functions(text: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for kind in (ast.FunctionDef, ast.AsyncFunctionDef):
        yield from _nodes(text, kind)  # type: ignore[misc]


def _above(text: str, pick: Pick, line: str) -> str | None:
    found = list(_functions(text))
    if not found:
        return None
    node = found[pick(len(found))]
    first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
    return _inserted(text, first, node.col_offset, line)


def _inside(text: str, pick: Pick, line: str) -> str | None:
    found = [node for node in _functions(text) if node.body[0].lineno > node.lineno]
    if not found:
        return None
    first = found[pick(len(found))].body[0]
    if isinstance(first, (ast.Global, ast.Nonlocal)) or _is_docstring(first):
        return None
    lineno = min([first.lineno, *(d.lineno for d in getattr(first, "decorator_list", ()))])
    return _inserted(text, lineno, first.col_offset, line)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _inserted(text: str, lineno: int, indent: int, line: str) -> str:
    lines = text.splitlines(keepends=True)
    lines.insert(lineno - 1, " " * indent + line + "\n")
    return "".join(lines)
