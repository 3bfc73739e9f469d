"""A script of a notebook's classes, for ``lifecycle-magic run``, ``serve`` and ``deploy``."""

from __future__ import annotations

import ast
import reprlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.fingerprint.statements import Cell, Statement, read
from lifecycle_magic.ui.export.decorator import app_name, decorator, literal
from lifecycle_magic.ui.export.dependencies import SET_UP, needed

__all__ = ["classes_of", "script"]

_PACKAGE = "lifecycle_magic"
_WITH_BODY = ("def ", "async def ", "class ", "@")
_CALLABLE = {
    *("method", "batched", "fastapi_endpoint", "web_endpoint"),
    *("asgi_app", "wsgi_app", "web_server"),
}
"""Decorators that make a method callable from outside, and so its class one that runs."""


class Exported(NamedTuple):
    """The script, and the names of the classes and functions that it declares."""

    text: str
    names: list[str]


def script(
    cells: Sequence[Cell],
    names: Sequence[str],
    stem: str,
    namespace: Mapping[str, object] | None = None,
) -> Exported:
    """Return a script that declares the classes with these names; all of them without names.

    ``stem`` is the name of the app where the notebook has none. ``namespace`` is the notebook's: a
    constant has to have the value there that its cell gave it. No code runs. Raises `InvalidError`
    if a name is unknown, or if something that a class needs can't be in a script.

    >>> cell = Cell("class Model:\\n    @lm.method()\\n    def go(self): ...", "--cpu 1")
    >>> print(script([Cell("import lifecycle_magic as lm"), cell], ["Model"], "app").text)
    import lifecycle_magic as lm
    <BLANKLINE>
    app = lm.App("app")
    <BLANKLINE>
    <BLANKLINE>
    @app.cls(cpu=1)
    class Model:
        @lm.method()
        def go(self): ...
    <BLANKLINE>
    """
    statements = read(list(cells))
    running = classes_of(statements)
    wanted = list(names) or list(running)
    if not wanted:
        raise InvalidError(
            "export: no cell declares a class that runs in containers. "
            "Fix: run a cell with %%lifecycle_cls or @app.cls first"
        )
    chosen = _without_repetitions(needed(statements, wanted))
    by_magic = [one for one in chosen if one.options is not None and _name(one) in running]
    if not by_magic and not any(_is_decorated(one) for one in chosen):
        raise InvalidError(
            f"export: {', '.join(wanted)} runs in no container. "
            "Fix: name a class of a cell with %%lifecycle_cls or @app.cls"
        )
    if namespace is not None:
        _compare_constants(chosen, namespace)
    alias = _alias(chosen)
    lm = alias or "lm"
    app = "notebook_app" if any("app" in one.defines for one in chosen) else "app"
    imports, rest = _parted([*(one for one in statements if one.is_future), *chosen])
    head = [] if alias else [f"import {_PACKAGE} as lm"]
    if future := [one.text for one in imports if one.is_future]:
        head = [*dict.fromkeys(future), *head]
    head += [one.text for one in imports if not one.is_future]
    declared = [f"{app} = {lm}.App({literal(_app_name(by_magic) or stem)})"] if by_magic else []
    blocks = list(_blocks(rest, lm, app, running))
    text = _joined("\n".join(head), [*declared, *blocks])
    compile(text, f"<{stem}>", "exec", dont_inherit=True)
    return Exported(text, wanted)


def _app_name(classes: Iterable[Statement]) -> str:
    """Return the name that the classes' ``--app`` flags agree on; an empty string without one."""
    called = {app_name(one.options or "") for one in classes} - {""}
    if len(called) > 1:
        raise InvalidError(
            f"export: the classes have different --app names: {', '.join(sorted(called))}. "
            "Fix: export them one by one"
        )
    return next(iter(called), "")


def _compare_constants(statements: Sequence[Statement], namespace: Mapping[str, object]) -> None:
    """Raise `InvalidError` if a constant has another value now than the one its cell gave it."""
    for position, one in enumerate(statements):
        match one.node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case _:
                continue
        later = statements[position + 1 :]
        if any(name in other.defines | other.changes | other.calls for other in later):
            continue
        try:
            written = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError):
            continue
        now = namespace.get(name, written)
        if type(now) is not type(written) or now != written:
            raise InvalidError(
                f"export: {name} is {reprlib.repr(now)} now, and the cell that defines it says "
                f"{reprlib.repr(written)}. Fix: assign the value in a cell, or run that cell again"
            )


def classes_of(statements: Iterable[Statement]) -> dict[str, Statement]:
    """Return the last statement of each class that runs in containers, by its name."""
    found: dict[str, Statement] = {}
    methods: set[str] = set()
    for one in statements:
        for name in one.defines:
            found.pop(name, None)
        node = one.node
        if not isinstance(node, ast.ClassDef):
            continue
        methods.discard(node.name)
        inherits = any(isinstance(base, ast.Name) and base.id in methods for base in node.bases)
        if inherits or any(_marks(item) for item in node.body):
            methods.add(node.name)
            if _is_decorated(one) or (one.options is not None and not _is_abstract(node)):
                found[node.name] = one
    return found


def _is_abstract(node: ast.ClassDef) -> bool:
    """Return whether a class has abstract methods of its own, so that a cell leaves it plain."""
    decorators = (one for item in node.body for one in getattr(item, "decorator_list", ()))
    return any(_last_name(one) in ("abstractmethod", "abstractproperty") for one in decorators)


def _marks(node: ast.stmt) -> bool:
    """Return whether a method has a decorator that makes it callable from outside."""
    decorators = getattr(node, "decorator_list", ())
    return any(_last_name(one) in _CALLABLE for one in decorators)


def _is_decorated(statement: Statement) -> bool:
    """Return whether the statement has ``@app.cls(...)`` or ``@app.function(...)``."""
    decorators = getattr(statement.node, "decorator_list", ())
    return any(_last_name(one) in ("cls", "function") for one in decorators)


def _last_name(node: ast.expr) -> str:
    """Return ``c`` of ``a.b.c(...)``."""
    inner = node.func if isinstance(node, ast.Call) else node
    return getattr(inner, "attr", getattr(inner, "id", ""))


def _name(statement: Statement) -> str:
    return getattr(statement.node, "name", "")


def _alias(statements: Iterable[Statement]) -> str:
    """Return the name that ``import lifecycle_magic as ...`` gives; an empty string without one."""
    for one in statements:
        if isinstance(one.node, ast.Import):
            for alias in one.node.names:
                if alias.name == _PACKAGE:
                    return alias.asname or alias.name
    return ""


def _without_repetitions(statements: Sequence[Statement]) -> list[Statement]:
    """Drop imports, functions and classes that are there already, word for word.

    Cells that run twice define them twice.
    """
    kept: dict[object, Statement] = {}
    for one in statements:
        repeats = one.is_import or isinstance(one.node, (ast.FunctionDef, ast.AsyncFunctionDef))
        kept.setdefault((one.text, one.options) if repeats else object(), one)
    return list(kept.values())


def _parted(statements: Sequence[Statement]) -> tuple[list[Statement], list[Statement]]:
    """Part the imports for the top of the script from the rest.

    They stay where they are if a statement sets up what they depend on, such as ``sys.path``.
    """
    if any(one.changes & {"sys", "os"} or one.text.startswith(SET_UP) for one in statements):
        future = [one for one in statements if one.is_future]
        return future, [one for one in statements if not one.is_future]
    imports = [one for one in statements if one.is_import]
    return imports, [one for one in statements if not one.is_import]


def _blocks(
    statements: Sequence[Statement], lm: str, app: str, running: Collection[str]
) -> Iterator[str]:
    """Yield the source of the statements, with the classes of cells declared by ``app.cls``.

    A class is declared below the last statement that assigns to its attributes.
    """
    late: dict[int, list[str]] = {}
    for position, one in enumerate(statements):
        name, text = _name(one), one.text
        if one.options is not None and name in running and not _is_decorated(one):
            added = decorator(one.options, lm, app)
            last = max(
                (n for n, other in enumerate(statements) if name in other.changes), default=0
            )
            if last > position:
                call = added.removeprefix("@")
                late.setdefault(last, []).append(f"{name} = {call}({name})")
            else:
                lines = text.splitlines()
                first = next(n for n, line in enumerate(lines) if not line.startswith("#"))
                text = "\n".join([*lines[:first], added, *lines[first:]])
        yield text
        yield from late.pop(position, ())


def _joined(head: str, blocks: Iterable[str]) -> str:
    """Join statements with the empty lines that Python code usually has between them."""
    text, gap = head, "\n\n"
    for block in blocks:
        has_body = any(line.startswith(_WITH_BODY) for line in block.splitlines())
        text += ("\n\n\n" if has_body else gap) + block.rstrip()
        gap = "\n\n\n" if has_body else "\n"
    return text + "\n"
