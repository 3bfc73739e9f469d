"""Names of a module that its code looks up by strings: ``globals()["LIMIT"]``, ``eval("a + b")``.

A string that the code spells out says which name is meant. A string that is made at run time may
mean any name: then the names that the same cell defines are meant, and functions and classes whose
names begin or end as a string of the code does (``globals()[f"do_{task}"]``).
"""

from __future__ import annotations

import ast
import dis
import functools
import itertools
import linecache
import re
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.fingerprint.source_names import bound_names
from lifecycle_magic.wire.code_objects import with_nested_codes

__all__ = ["StringNames", "names_by_string", "open_lookups"]

_BUILTINS = frozenset({"globals", "eval", "exec"})
# Attributes that are a namespace: of functions, frames, and IPython's shell.
_SPACES = frozenset({"__globals__", "f_globals", "user_ns", "user_global_ns"})
# Methods of libraries that read variables of their caller: pandas, numexpr, duckdb.
_MARKED = frozenset({"query", "eval"})  # names follow an @
_LIBRARIES = frozenset({"evaluate", "sql"})
_READS = frozenset({"get", "pop", "setdefault", "__getitem__", "__contains__", "__setitem__"})
_OF_SHELL = frozenset({"In", "Out", "exit", "quit", "open", "get_ipython", "display"})
_FILLERS = frozenset(
    {"NOP", "CACHE", "RESUME", "EXTENDED_ARG", "PRECALL", "NOT_TAKEN", "PUSH_NULL"}
)
_GLOBAL_LOADS = ("LOAD_GLOBAL", "LOAD_NAME")
_MAIN = "__main__"
_OF_MODULES = frozenset({"getattr", "hasattr", "getmembers", "vars", "dir", "__dict__"})
_FUNCTIONS = _BUILTINS | {"getattr", "hasattr", "getmembers", "vars", "dir"}
_TRIGGERS = _BUILTINS | _SPACES | _MARKED | _LIBRARIES | {_MAIN, "modules"}
_SHORTEST_PART = 2  # characters of the beginning or end of a name

_WORD = re.compile(r"[^\W\d]\w*")
_MARKED_WORD = re.compile(r"@([^\W\d]\w*)")


class StringNames(NamedTuple):
    """The names that the strings of some code may stand for.

    ``strings`` are the words in them and ``attributes`` what the code reads of its own module.
    ``parts`` are beginnings and ends of names. ``evaluated`` has words in the strings that the
    function ``eval`` of a module gets, each with the module's name in the code. ``lookups`` are the
    functions and attributes by which the code may read any name: none if all strings are spelled
    out.
    """

    strings: frozenset[str] = frozenset()
    attributes: frozenset[str] = frozenset()
    parts: frozenset[str] = frozenset()
    lookups: frozenset[str] = frozenset()
    evaluated: frozenset[tuple[str, str]] = frozenset()


def names_by_string(
    code: CodeType, space: Mapping[str, Any], *, spelled_out: bool = False
) -> list[str]:
    """Return the names of the namespace ``space`` that ``code`` may look up by a string, sorted.

    With ``spelled_out`` only those that a string in the code spells out.

    >>> def scaled(x):
    ...     return x * globals()["FACTOR"]
    >>> names_by_string(scaled.__code__, {"FACTOR": 2, "OTHER": 3})
    ['FACTOR']
    """
    read = _read(code)
    if read is None:
        return []
    names = {word for word in read.strings | read.attributes if word in space}
    names |= {
        word
        for module, word in read.evaluated
        if word in space and (not module or isinstance(space.get(module), ModuleType))
    }
    if not spelled_out and _lookups(read, space):
        names |= {name for name in _defined_in(code.co_filename) if name in space}
        names |= {
            name
            for name, value in list(space.items())
            if isinstance(value, FunctionType) or is_class(value)
            if any(name.startswith(part) or name.endswith(part) for part in read.parts)
        }
    return sorted(name for name in names if name[:2] != "__" and name not in _OF_SHELL)


def open_lookups(code: CodeType, space: Mapping[str, Any]) -> list[str]:
    """Return the functions and attributes by which ``code`` may read any name of ``space``."""
    read = _read(code)
    found = () if read is None else sorted(_lookups(read, space))
    return [f"{name}()" if name in _FUNCTIONS else name for name in found]


def _lookups(read: StringNames, space: Mapping[str, Any]) -> frozenset[str]:
    """Return the open lookups of code in a module with the names ``space``."""
    found = read.lookups - (space.keys() & _BUILTINS)  # the module may define its own `eval`
    return found - {"getattr", "hasattr"} if read.strings & space.keys() else found


@functools.lru_cache(maxsize=4096)
def _read(code: CodeType) -> StringNames | None:
    """Return what the strings of ``code`` and of the code nested in it may name."""
    codes = [*with_nested_codes(code)]
    names = {name for one in codes for name in one.co_names}
    if not names & _TRIGGERS and not any(_MAIN in one.co_consts for one in codes):
        return None
    texts = [text for one in codes for text in _strings(one)]
    if _MAIN in names or any(_MAIN in text for text in texts) or {"modules", "__name__"} <= names:
        lookups = names & _OF_MODULES
        words = _words(texts) if lookups else frozenset[str]()
        return StringNames(words, frozenset(names), _parts(texts), frozenset(lookups))
    sites = [site for one in codes for site in _sites(one)]
    evaluated = frozenset(pair for one in codes for pair in _evaluated(one, texts))
    if sites or names & (_SPACES | _LIBRARIES):
        lookups = {name for name, text in sites if text is None} | names & _SPACES
        if not lookups and not names & _LIBRARIES:
            texts = [text for _, text in sites if text is not None]
        words, parts = _words(texts), _parts(texts)
        return StringNames(words, frozenset(), parts, frozenset(lookups), evaluated)
    marked = frozenset(word for text in texts for word in _MARKED_WORD.findall(text))
    return StringNames(marked, evaluated=evaluated)


def _words(texts: list[str]) -> frozenset[str]:
    return frozenset(word for text in texts for word in _WORD.findall(text))


def _parts(texts: list[str]) -> frozenset[str]:
    """Return the strings that may be the beginning or end of a name."""
    found = (text for text in texts if _WORD.fullmatch(text))
    return frozenset(text for text in found if len(text) >= _SHORTEST_PART)


def _steps(code: CodeType) -> list[dis.Instruction]:
    return [step for step in dis.get_instructions(code) if step.opname not in _FILLERS]


def _strings(code: CodeType) -> list[str]:
    """Return the strings that the code loads. It does not load its docstring."""
    found: list[str] = []
    for step in dis.get_instructions(code):
        if step.opcode in dis.hasconst and step.opname != "KW_NAMES":
            value = step.argval
            many = value if isinstance(value, (tuple, frozenset)) else (value,)
            found += [one for one in many if isinstance(one, str)]
    return found


# --- whether each string is spelled out -----------------------------------------------------------


def _sites(code: CodeType) -> list[tuple[str, str | None]]:
    """Return each use of `globals`, `eval` and `exec` with the string that it gets: None for one
    that is made at run time.
    """
    steps = _steps(code)
    return [
        (step.argval, _string_at(steps, index))
        for index, step in enumerate(steps)
        if step.opname in _GLOBAL_LOADS and step.argval in _BUILTINS
    ]


def _string_at(steps: Sequence[dis.Instruction], index: int) -> str | None:
    """Return the string for the builtin that is loaded at ``index``, None if it is no constant."""
    after = steps[index + 1 :]
    if steps[index].argval != "globals":
        return _constant(after, 0)
    while after and after[0].opname.startswith("CALL"):
        after = after[1:]
    if len(after) < 2:
        return None
    if _is_evaluated(steps, index):
        return ""  # `eval` has the string
    if "SUBSCR" in after[1].opname or after[1].argrepr == "[]":
        return _constant(after, 0)
    if after[0].opname in ("LOAD_ATTR", "LOAD_METHOD") and after[0].argval in _READS:
        return _constant(after, 1)
    if after[0].opname == "CONTAINS_OP":
        return _constant(steps, index - 1)
    return None


def _constant(steps: Sequence[dis.Instruction], index: int) -> str | None:
    """Return the constant string that an instruction loads; None if there is none."""
    if not 0 <= index < len(steps) or not _is_string(steps[index]):
        return None
    return str(steps[index].argval)


def _evaluated(code: CodeType, texts: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the words in the strings of calls such as ``pd.eval("LIMIT + 1")``.

    Each comes with the name of what `eval` is read from: empty for a module that the code imports.
    ``texts`` are all strings, which count where one is made at run time. The method `eval` of a
    data frame knows no names without an @.
    """
    steps = _steps(code)
    imported = {
        _names(after)[0]
        for step, after in itertools.pairwise(steps)
        if step.opname == "IMPORT_NAME" and "STORE" in after.opname
    }
    for index, (owner, step) in enumerate(itertools.pairwise(steps), 2):
        if step.argval != "eval" or step.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
            continue
        name = _names(owner)[-1]
        if owner.opname not in _GLOBAL_LOADS:
            if name not in imported:
                continue
            name = ""
        text = _constant(steps, index)
        for word in _words(texts if text is None else [text]):
            yield name, word


def _names(step: dis.Instruction) -> tuple[str, ...]:
    """Return the names of an instruction: since Python 3.13 it may have two."""
    return tuple(map(str, step.argval)) if isinstance(step.argval, tuple) else (str(step.argval),)


def _is_evaluated(steps: Sequence[dis.Instruction], index: int) -> bool:
    """Return whether the namespace is an argument of `eval` or `exec`, after a constant string."""
    is_after = index >= 2 and _is_string(steps[index - 1])
    return is_after and steps[index - 2].argval in ("eval", "exec")


def _is_string(step: dis.Instruction) -> bool:
    return step.opcode in dis.hasconst and isinstance(step.argval, str)


# --- the names of a cell --------------------------------------------------------------------------


def _defined_in(file: str) -> set[str]:
    """Return the names that the top level of a cell or file binds, as far as its text is known."""
    return _bound_in("".join(linecache.getlines(file)))


@functools.lru_cache(maxsize=64)
def _bound_in(text: str) -> set[str]:
    lines = text.splitlines(keepends=True)
    python = "".join("#" + line[1:] if line[:1] in ("%", "!", "?") else line for line in lines)
    try:
        body = ast.parse(python).body
    except (SyntaxError, ValueError):
        return set()
    return {name for statement in body for name in bound_names(statement)}
