"""The names that code reads: globals, attributes, and strings that may be names."""

from __future__ import annotations

import dis
from types import CodeType
from typing import NamedTuple

__all__ = ["CodeNames", "names_in"]

_GLOBAL_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_GLOBAL_WRITES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})


class CodeNames(NamedTuple):
    """The names in one code object and in those nested in it.

    ``globals`` are pairs of a global and the attribute that is read from it directly, or None.
    ``attributes`` are read from anything else. ``strings`` may be names for `getattr` or
    ``globals()``. ``stored`` are the globals that the code assigns.
    """

    globals: frozenset[tuple[str, str | None]]
    attributes: frozenset[str]
    strings: frozenset[str]
    stored: frozenset[str]


def names_in(code: CodeType) -> CodeNames:
    """Return the names in ``code``.

    >>> sorted(names_in((lambda x: np.mean(x.values) * RATE).__code__).globals)
    [('RATE', None), ('np', 'mean')]
    """
    found: set[tuple[str, str | None]] = set()
    attributes: set[str] = set()
    strings: set[str] = set()
    stored: set[str] = set()
    waiting = [code]
    while waiting:
        one = waiting.pop()
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
        for constant in one.co_consts:
            if isinstance(constant, CodeType):
                waiting.append(constant)
            else:
                strings.update(_strings(constant))
    return CodeNames(frozenset(found), frozenset(attributes), frozenset(strings), frozenset(stored))


def _strings(constant: object) -> set[str]:
    if isinstance(constant, str):
        # `operator.attrgetter("a.b")` reads both.
        return set(constant.split(".")) if len(constant) < 200 else set()
    if isinstance(constant, (tuple, frozenset)):
        return set().union(*map(_strings, constant))
    return set()
