"""Code as source text: the piece that is sent compiles to the code that the function has."""

from __future__ import annotations

import contextlib
import functools
import linecache
import sys
import types
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from lifecycle_magic import checks
from lifecycle_magic.wire import python_versions, source_code

_numbers = count()


def run(text: str, flags: int = 0) -> dict[str, Any]:
    """Run a cell whose text can be looked up, as IPython's can; its names."""
    name = f"<source-test {next(_numbers)}>"
    linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, name, "exec", flags=flags, dont_inherit=True), space)
    return space


def functions(space: dict[str, Any]) -> Iterator[types.FunctionType]:
    for value in space.values():
        members = [value] if not isinstance(value, type) else list(vars(value).values())
        yield from (one for one in members if isinstance(one, types.FunctionType))


CELLS = {
    "functions and classes": '''
import functools

def plain(x): return x

def deco(f):
    @functools.wraps(f)
    def inner(*a): return f(*a)
    return inner

@deco
@deco
def decorated(x):
    """Has text."""
    return x

class A:
    def first(self): return super().__init__()
    async def later(self): return [x async for x in self.y]
    def __private(self): return self.__private
''',
    "lambdas of one line": """
a, b, c, d = lambda: 1, lambda: 2, lambda: 1, (lambda x=(lambda: 3): x)
e = [lambda i=i: (i, lambda: i) for i in range(2)][1]; f = e(1)[1]
""",
    "inside of other statements": """
if True:
    try:
        def inside(x):
            return [y for y in x if (lambda z: z)(y)]
    finally:
        text = f"{(lambda: 5)()}"; other = lambda: text
""",
    "closures": """
def make(n):
    def add(x):
        nonlocal n
        n += 1
        return lambda: (n, x)
    return add
add = make(1); last = add(2)
""",
    "a top-level await beside it": """
async def one(): return 1
""",
    "lines that go on": """
def \\
  odd(
  x,
  y=(lambda: 1)): return (x,
 y)
z = odd.__defaults__[0]
""",
}


@pytest.mark.parametrize("name", CELLS)
def test_each_function_of_a_cell_is_found_and_compiles_to_its_code(name: str) -> None:
    space = run(CELLS[name])
    found = list(functions(space))
    assert found
    for function in found:
        code = function.__code__
        piece = source_code.find(code)
        assert piece is not None, function
        again = source_code.compiled(*piece)
        assert again.co_firstlineno == code.co_firstlineno
        assert again.co_consts == code.co_consts
        assert again.co_names == code.co_names
        assert again.co_freevars == code.co_freevars


def test_only_the_statement_around_a_function_is_sent() -> None:
    space = run("secret = 'a long story'\ndef f(): return 1\nprint\n")
    piece = source_code.find(space["f"].__code__)
    assert piece is not None
    assert (piece.text, piece.first_line) == ("def f(): return 1\n", 2)


def test_a_future_import_of_an_earlier_cell_counts() -> None:
    import __future__

    space = run("def f(x: missing): pass\n", flags=__future__.annotations.compiler_flag)
    piece = source_code.find(space["f"].__code__)
    assert piece is not None
    assert source_code.compiled(*piece) == space["f"].__code__


def test_code_of_exec_has_no_source() -> None:
    space: dict[str, Any] = {}
    exec("def f(): return 1", space)
    assert source_code.find(space["f"].__code__) is None


def test_code_of_a_file_that_was_edited_since_has_no_source(tmp_path: Path) -> None:
    path = tmp_path / "edited.py"
    path.write_text("def f(): return 1\n")
    space: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec"), space)
    path.write_text("def f(): return 2\n")
    assert source_code.find(space["f"].__code__) is None
    path.write_text("def f(): return 1\n")
    source_code._found.clear()
    assert source_code.find(space["f"].__code__) is not None


def wrapped() -> Callable[..., Any]:
    @contextlib.contextmanager
    def managed() -> Iterator[int]:
        yield 1

    return managed


@pytest.mark.parametrize(
    "function",
    [wrapped(), functools.wraps, functools.total_ordering],
    ids=["contextmanager", "wraps", "total_ordering"],
)
def test_code_of_the_standard_library_is_found_by_its_place(function: types.FunctionType) -> None:
    place = source_code.find_in_library(function)
    assert place is not None
    assert source_code.from_library(*place) == function.__code__


def test_a_place_that_this_standard_library_lacks_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"functools\.never_there can't travel"):
        source_code.from_library("functools", (("never_there", 0),))


def test_bytecode_of_another_python_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"f of <x> can't travel from Python 2\.7 to Python 3"):
        source_code.by_minor("2.7", "f of <x>", types.CodeType, ())


def test_syntax_that_the_other_python_lacks_is_explained() -> None:
    with pytest.raises(SyntaxError, match="the code was written for another one"):
        source_code.compiled("def f(:\n", "<x>", 1, 0, 0)


def test_both_lists_of_supported_versions_agree() -> None:
    assert all(map(python_versions.is_supported, checks.PYTHONS))
    first, last = checks.PYTHONS[0], checks.PYTHONS[-1]
    assert (first, last) == tuple(
        f"{major}.{minor}" for major, minor in (python_versions.OLDEST, python_versions.NEWEST)
    )
    assert not python_versions.is_supported(None)
    assert python_versions.python_minor() == f"{sys.version_info[0]}.{sys.version_info[1]}"
