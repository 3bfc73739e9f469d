"""The names that code reads: globals, attributes, and strings that may be names."""

from __future__ import annotations

import dis
import re
from types import CodeType
from typing import NamedTuple

from lifecycle_magic.wire.code_objects import with_nested_codes

__all__ = ["CodeNames", "names_in"]

_GLOBAL_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_GLOBAL_WRITES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
# With these, code reads attributes whose names are nowhere in it.
_DYNAMIC = frozenset(
    {"getattr", "vars", "dir", "eval", "exec", "globals", "locals", "__dict__", "__getattribute__"}
)
_EVALUATING = frozenset({"eval", "exec", "query", "evaluate", "sql"})
_WORD = re.compile(r"[^\W\d]\w*")


class CodeNames(NamedTuple):
    """The names in one code object and in those nested in it.

    ``globals`` are pairs of a global and the attribute that is read from it directly, or None.
    ``attributes`` are read from anything else. ``strings`` may be names for `getattr` or
    ``globals()``. ``stored`` are the globals that the code assigns. ``is_open`` says that the code
    may read attributes whose names it makes at run time, or pass objects to a module that it
    imports.
    """

    globals: frozenset[tuple[str, str | None]]
    attributes: frozenset[str]
    strings: frozenset[str]
    stored: frozenset[str]
    is_open: bool = False


def names_in(code: CodeType) -> CodeNames:
    """Return the names in ``code``.

    >>> sorted(names_in((lambda x: np.mean(x.values) * RATE).__code__).globals)
    [('RATE', None), ('np', 'mean')]
    """
    found: set[tuple[str, str | None]] = set()
    attributes: set[str] = set()
    strings: set[str] = set()
    stored: set[str] = set()
    is_open = False
    for one in with_nested_codes(code):
        before: str | None = None  # the global that the instruction above has loaded
        for step in dis.get_instructions(one):
            name, value = step.opname, step.argval
            if name == "EXTENDED_ARG":
                continue
            is_attribute = name.startswith("LOAD_") and ("ATTR" in name or name == "LOAD_METHOD")
            if before is not None:
                found.add((before, value if is_attribute else None))
            elif is_attribute:
                attributes.add(value)
            before = value if name in _GLOBAL_LOADS else None
            if name in _GLOBAL_WRITES:
                stored.add(value)
            is_open = is_open or name == "IMPORT_NAME"
        is_open = is_open or not _DYNAMIC.isdisjoint(one.co_names)
        is_evaluated = not _EVALUATING.isdisjoint(one.co_names)
        for constant in one.co_consts:
            if not isinstance(constant, CodeType):
                strings.update(_strings(constant))
                if is_evaluated and isinstance(constant, str):
                    strings.update(_WORD.findall(constant))
        is_open = is_open or ("print" in one.co_names and "file" in strings)  # calls `file.write`
    return CodeNames(
        frozenset(found), frozenset(attributes), frozenset(strings), frozenset(stored), is_open
    )


def _strings(constant: object) -> set[str]:
    if isinstance(constant, str):
        # `operator.attrgetter("a.b")` reads both.
        return set(constant.split(".")) if len(constant) < 200 else set()
    if isinstance(constant, (tuple, frozenset)):
        return set().union(*map(_strings, constant))
    return set()
