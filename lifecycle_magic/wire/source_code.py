"""Code as source text, for a Python of another minor version.

Bytecode does not cross minor versions, source does. A function's code is sent as the statement that
it stands in, with its number among the functions of that statement. The other side compiles the
statement and takes the code out of the result, so nothing of it runs. Code of the standard library
is sent as its place there: each Python has its own.

What is sent was compiled again here first, and is the code that the function has. So a file that
was edited since is never sent in place of the code that runs.
"""

from __future__ import annotations
import __future__

import ast
import functools
import importlib.util
import linecache
import sys
import threading
import types
from typing import Any, NamedTuple

from lifecycle_magic.wire.code_objects import nested_codes
from lifecycle_magic.wire.python_versions import python_minor

__all__ = [
    "Piece",
    "Place",
    "StoredCode",
    "by_minor",
    "compiled",
    "find",
    "find_in_library",
    "from_library",
]

_FUTURE = __future__.annotations.compiler_flag  # the only one that Python 3 still has a use for
_STDLIB = frozenset(sys.stdlib_module_names) - {"__main__"}


class SourceStatement(NamedTuple):
    """A statement of a file or cell.

    ``first_line`` is the line of the file on which the text begins; ``future`` is the compiler flag
    of ``from __future__ import annotations``, or 0.
    """

    text: str
    file: str
    first_line: int
    future: int


class Piece(NamedTuple):
    """A `SourceStatement`, and the number of one of its functions."""

    text: str
    file: str
    first_line: int
    future: int
    number: int


class Place(NamedTuple):
    """The place of a function in a module of the standard library.

    ``path`` holds a name for each function and class around it, and its number among those of this
    name there.
    """

    module: str
    path: tuple[tuple[str, int], ...]


class StoredCode:
    """A code object that is pickled as a `Piece`, as a `Place`, or as bytecode of this version."""

    def __init__(self, make: Any, arguments: tuple[Any, ...]) -> None:
        self._reduced = make, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


def by_minor(python: str, name: str, make: Any, arguments: tuple[Any, ...]) -> types.CodeType:
    """Return the code that a process of version ``python`` sent as bytecode.

    Raises `TypeError` in another version: ``arguments`` mean something else here.
    """
    here = python_minor()
    if python != here:
        raise TypeError(
            f"{name} can't travel from Python {python} to Python {here}: it has no source text "
            "there. Fix: write it with def in a cell or a file, or use the same Python on both "
            "sides"
        )
    found: types.CodeType = make(*arguments)
    return found


# --- the sender ----------------------------------------------------------------------------------


def find(code: types.CodeType) -> Piece | None:
    """Return the piece of source text that compiles to ``code``, or None if there is none."""
    known = _found.get(id(code))
    if known is not None and known[0] is code:
        return known[1]
    return _keep(code, _find(code))


def _keep(code: types.CodeType, piece: Piece | None) -> Piece | None:
    if len(_found) >= _MOST_KEPT:
        _found.clear()
    _found[id(code)] = code, piece
    return piece


_MOST_KEPT = 4096
_found: dict[int, tuple[types.CodeType, Piece | None]] = {}


def _find(code: types.CodeType) -> Piece | None:
    lines = linecache.getlines(code.co_filename)
    piece = _find_among(code, lines) if lines else None
    if piece is None:
        linecache.checkcache(code.co_filename)  # the file may have changed, and been run again
        changed = linecache.getlines(code.co_filename)
        piece = _find_among(code, changed) if changed != lines else None
    return piece


def _find_among(code: types.CodeType, lines: list[str]) -> Piece | None:
    future = code.co_flags & _FUTURE
    try:
        for first, text in _statements("".join(lines)):
            if first <= code.co_firstlineno < first + max(text.count("\n"), 1):
                return _find_in(code, SourceStatement(text, code.co_filename, first, future), lines)
    except (SyntaxError, ValueError, RecursionError):
        pass
    return None


def _find_in(code: types.CodeType, statement: SourceStatement, lines: list[str]) -> Piece | None:
    """Return the piece of ``statement`` that compiles to ``code``.

    IPython compiles each statement by itself, an import compiles a file as a whole. The bytecode
    may differ: a file's own imports decide how it calls functions of modules.
    """
    alone = _source(*statement)
    numbers = alone.numbers(code.co_name, code.co_firstlineno)
    for number in numbers:
        if alone.code(number) == code:
            return Piece(*statement, number)
    whole = _source("".join(lines), statement.file, 1, statement.future)
    same = whole.numbers(code.co_name, code.co_firstlineno)
    for number, one in zip(numbers, same, strict=True):
        if whole.code(one) == code:
            return Piece(*statement, number)
    return None


@functools.lru_cache(64)
def _statements(text: str) -> tuple[tuple[int, str], ...]:
    """Return the first line and the text of each statement. Those that share a line are one."""
    lines = text.splitlines(keepends=True)
    found: list[list[int]] = []
    for one in ast.parse(text).body:
        first = min([one.lineno, *(d.lineno for d in getattr(one, "decorator_list", ()))])
        last = one.end_lineno or first
        if found and first <= found[-1][1]:
            found[-1][1] = max(last, found[-1][1])
        else:
            found.append([first, last])
    return tuple((first, "".join(lines[first - 1 : last])) for first, last in found)


def find_in_library(function: types.FunctionType) -> Place | None:
    """Return the place of a function of the standard library, or None for any other function."""
    module = str(function.__globals__.get("__name__"))
    found = sys.modules.get(module)
    if found is None or vars(found) is not function.__globals__:
        return None
    if module.partition(".")[0] not in _STDLIB:
        return None
    try:
        source = _library(module)
        for number in source.numbers(function.__code__.co_name, function.__code__.co_firstlineno):
            if source.code(number) == function.__code__:
                return Place(module, source.path(number))
    except (SyntaxError, ImportError, ValueError, RecursionError):
        pass
    return None


# --- the receiver --------------------------------------------------------------------------------


def compiled(text: str, file: str, first_line: int, future: int, number: int) -> types.CodeType:
    """Return the code of a function of a statement. Raises `SyntaxError` for syntax that this
    version of Python lacks.
    """
    try:
        code = _source(text, file, first_line, future).code(number)
    except SyntaxError as error:
        here = python_minor()
        error.msg += f" (this container has Python {here}, the code was written for another one)"
        raise
    _keep(code, Piece(text, file, first_line, future, number))  # it may be sent back
    return code


def from_library(module: str, path: tuple[tuple[str, int], ...]) -> types.CodeType:
    """Return the code of a function of this Python's standard library."""
    source = _library(module)
    for number in range(len(source.functions)):
        if source.path(number) == path:
            return source.code(number)
    name = ".".join(name for name, _ in path)
    here = python_minor()
    raise TypeError(
        f"{module}.{name} can't travel: the standard library of Python {here} has no such function"
    )


# --- both ----------------------------------------------------------------------------------------

_Function = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class _Source:
    """Source text, its functions in the order of `ast.walk`, and their code."""

    def __init__(self, text: str, file: str, first_line: int, future: int) -> None:
        self._file, self._flags = file, future | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._tree = ast.parse(text, file)
        ast.increment_lineno(self._tree, first_line - 1)
        self.functions = [one for one in ast.walk(self._tree) if isinstance(one, _Function)]
        # Far from every line of the text.
        self._shift = max((one.end_lineno or 0 for one in self.functions), default=0) + 1
        self._known: dict[int, types.CodeType] = {}
        self._lock = threading.Lock()

    def numbers(self, name: str, line: int) -> list[int]:
        """Return the numbers of the functions of this name that begin on a line."""
        return self._by_key.get((name, line), [])

    def code(self, number: int) -> types.CodeType:
        """Return the code of a function."""
        with self._lock:
            if number not in self._known:
                node = self.functions[number]
                key = _key(node)
                codes = self._codes.get(key, [])
                if not codes:  # code that never runs is not compiled
                    raise ValueError(f"{key[0]} of line {key[1]} has no code")
                alone = (
                    not isinstance(node, ast.Lambda) or len(codes) == len(self._by_key[key]) == 1
                )
                self._known[number] = codes[0] if alone else self._lambda_code(node)
            return self._known[number]

    def path(self, number: int) -> tuple[tuple[str, int], ...]:
        """Return the names of a function and of all around it, each with its number there."""
        return self._paths[id(self.functions[number])]

    @functools.cached_property
    def _by_key(self) -> dict[tuple[str, int], list[int]]:
        found: dict[tuple[str, int], list[int]] = {}
        for number, node in enumerate(self.functions):
            found.setdefault(_key(node), []).append(number)
        return found

    @functools.cached_property
    def _codes(self) -> dict[tuple[str, int], list[types.CodeType]]:
        found: dict[tuple[str, int], list[types.CodeType]] = {}
        for code in nested_codes(self._compile()):
            found.setdefault((code.co_name, code.co_firstlineno), []).append(code)
        return found

    def _lambda_code(self, node: Any) -> types.CodeType:
        """Return the code of one of several lambdas of a line: it alone is compiled as if it
        stood on another line.
        """
        self._shift_lines(node, self._shift)
        try:
            codes = nested_codes(self._compile())
            moved = next(one for one in codes if one.co_firstlineno == node.lineno)
        finally:
            self._shift_lines(node, -self._shift)
        return _moved_back(moved, self._shift)

    def _shift_lines(self, node: Any, lines: int) -> None:
        # Not its arguments: the defaults are code of the function around it.
        node.lineno += lines
        node.end_lineno += lines
        ast.increment_lineno(node.body, lines)

    def _compile(self) -> types.CodeType:
        made: types.CodeType = compile(
            self._tree, self._file, "exec", flags=self._flags, dont_inherit=True
        )
        return made

    @functools.cached_property
    def _paths(self) -> dict[int, tuple[tuple[str, int], ...]]:
        found: dict[int, tuple[tuple[str, int], ...]] = {}

        def visit(node: ast.AST, path: tuple[tuple[str, int], ...], seen: dict[str, int]) -> None:
            for child in ast.iter_child_nodes(node):
                if not isinstance(child, (*_Function, ast.ClassDef)):
                    visit(child, path, seen)
                    continue
                name = getattr(child, "name", "<lambda>")
                seen[name] = seen.get(name, -1) + 1
                found[id(child)] = (*path, (name, seen[name]))
                visit(child, found[id(child)], {})

        visit(self._tree, (), {})
        return found


def _key(node: Any) -> tuple[str, int]:
    first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
    return getattr(node, "name", "<lambda>"), first


def _moved_back(code: types.CodeType, shift: int) -> types.CodeType:
    """Return code with its line numbers reduced: they are kept relative to the first one."""
    constants = tuple(
        _moved_back(one, shift) if isinstance(one, types.CodeType) else one
        for one in code.co_consts
    )
    return code.replace(co_firstlineno=code.co_firstlineno - shift, co_consts=constants)


_source = functools.lru_cache(256)(_Source)


@functools.lru_cache(32)
def _library(module: str) -> _Source:
    spec = importlib.util.find_spec(module)
    get_source = getattr(spec.loader if spec else None, "get_source", None)
    text = get_source(module) if get_source is not None else None
    if text is None:
        raise ImportError(f"the module {module} has no source text here")
    return _Source(text, str(spec.origin if spec else module), 1, 0)
