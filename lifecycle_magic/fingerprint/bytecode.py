"""The behaviour of a code object and the names that it reads, wherever it was written.

The source may be lost (a notebook cell that was edited), and it says too much: comments, line
breaks, docstrings. The code object always exists. `read` turns it into plain values that are equal
for equal behaviour: instructions by name, constants by value, jumps by the number of their target
instruction. Offsets, line tables, file names, docstrings and the order of constants are dropped.
`read` also lists what the code looks up in its module and on ``self``.

Digests of these values are valid within one minor version of Python, like bytecode.
"""

from __future__ import annotations

import dis
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

__all__ = ["CodeReads", "Import", "read"]

# Fillers for line breaks, caches and tracing. They do nothing.
_FILLERS = frozenset({"NOP", "CACHE", "RESUME", "EXTENDED_ARG", "PRECALL", "NOT_TAKEN"})
# Since Python 3.13 two loads or stores of one line are one instruction, and since 3.14 a load may
# borrow what it loads. Neither says what the code does.
_PAIRS = {
    "LOAD_FAST_LOAD_FAST": ("LOAD_FAST", "LOAD_FAST"),
    "LOAD_FAST_BORROW_LOAD_FAST_BORROW": ("LOAD_FAST", "LOAD_FAST"),
    "STORE_FAST_LOAD_FAST": ("STORE_FAST", "LOAD_FAST"),
    "STORE_FAST_STORE_FAST": ("STORE_FAST", "STORE_FAST"),
}
_GLOBAL_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_ATTRIBUTE_LOADS = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_ATTRIBUTE_WRITES = frozenset({"STORE_ATTR", "DELETE_ATTR"})
_SUPER_LOADS = frozenset({"LOAD_SUPER_ATTR", "LOAD_SUPER_METHOD"})
_SUPER_CALLS = frozenset({"CALL", "CALL_FUNCTION", "PUSH_NULL"})
# Python stores these in a class body. They say where the body is written, not what it does.
# (Python 3.13 lists the attributes set on self, in the order of a set.)
_BOOKKEEPING = frozenset({"__doc__", "__firstlineno__", "__static_attributes__"})
# OPTIMIZED, NEWLOCALS, VARARGS, VARKEYWORDS, and the four kinds of generator and coroutine.
_FLAGS = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x80 | 0x100 | 0x200


@dataclass(frozen=True, order=True)
class Import:
    """An ``import`` statement inside a function, including its ``from`` names."""

    module: str
    level: int
    names: tuple[str, ...]


@dataclass
class CodeReads:
    """The behaviour of one code object and those nested in it, and the names that they read.

    ``globals`` are names with the attributes that are read from them directly: ``helpers.LIMIT`` is
    ``("helpers", "LIMIT")``. ``attributes`` are read from ``self`` (or ``cls``), ``supers`` from
    ``super()``. ``escapes`` says that ``self`` is also passed elsewhere, where any name of
    ``loose`` may be read: every attribute name and every string in the code.
    """

    canonical: list[Any] = field(default_factory=list)
    globals: set[tuple[str, ...]] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    supers: set[str] = field(default_factory=set)
    loose: set[str] = field(default_factory=set)
    imports: set[Import] = field(default_factory=set)
    escapes: bool = False


def read(code: CodeType, self_name: str | None = None) -> CodeReads:
    """Read ``code``. ``self_name`` is its name for the instance, None if it has none."""
    reads = CodeReads()
    reads.canonical = _visit(code, self_name, reads)
    return reads


def _visit(code: CodeType, self_name: str | None, reads: CodeReads) -> list[Any]:
    steps = [step for step in dis.get_instructions(code) if step.opname not in _FILLERS]
    skipped = _bookkeeping_steps(steps)
    positions = _positions(code, steps)
    shown: list[Any] = []
    for index, step in enumerate(steps):
        if index not in skipped:
            shown += _canonical_steps(step, self_name, positions, reads)
        _record_reads(steps, index, code, self_name, reads)
    arguments = code.co_argcount + code.co_kwonlyargcount
    arguments += bool(code.co_flags & 0x4) + bool(code.co_flags & 0x8)
    return [
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        list(code.co_varnames[:arguments]),
        code.co_flags & _FLAGS,
        shown,
        _guarded_ranges(code, positions),
    ]


def _bookkeeping_steps(steps: list[dis.Instruction]) -> set[int]:
    found: set[int] = set()
    for index, step in enumerate(steps[1:], 1):
        if step.opname == "STORE_NAME" and step.argval in _BOOKKEEPING:
            found |= {index - 1, index}
    return found


def _positions(code: CodeType, steps: list[dis.Instruction]) -> dict[int, int]:
    """Return, for each offset, the number of the next instruction that is kept. A pair is two."""
    found: dict[int, int] = {}
    index = number = 0
    for offset in range(0, len(code.co_code) + 2, 2):
        while index < len(steps) and steps[index].offset < offset:
            number += 2 if steps[index].opname in _PAIRS else 1
            index += 1
        found[offset] = number
    return found


def _canonical_steps(
    step: dis.Instruction, self_name: str | None, positions: dict[int, int], reads: CodeReads
) -> list[list[Any]]:
    if step.opname in _PAIRS:
        return [list(one) for one in zip(_PAIRS[step.opname], step.argval, strict=True)]
    return [_canonical_step(step, self_name, positions, reads)]


def _canonical_step(
    step: dis.Instruction, self_name: str | None, positions: dict[int, int], reads: CodeReads
) -> list[Any]:
    value: Any = step.argval
    if step.opname == "LOAD_FAST_BORROW":
        return ["LOAD_FAST", value]
    if step.opcode in dis.hasconst:
        if isinstance(value, CodeType):
            inner = self_name if self_name in value.co_freevars else None
            return [step.opname, value.co_name, _visit(value, inner, reads)]
        return [step.opname, value]
    if step.opcode in dis.hasjrel or step.opcode in dis.hasjabs:
        return [step.opname, positions.get(value, value)]
    plain = value is None or isinstance(value, (str, int))
    if not plain and not (isinstance(value, tuple) and all(isinstance(v, str) for v in value)):
        value = step.arg
    return [step.opname, value]


def _guarded_ranges(code: CodeType, positions: dict[int, int]) -> list[list[Any]]:
    """Return which instructions a ``try`` guards. Since Python 3.11 they are in a separate
    table.
    """
    return [
        [
            positions.get(entry.start, entry.start),
            positions.get(entry.end, entry.end),
            positions.get(entry.target, entry.target),
            entry.depth,
            bool(entry.lasti),
        ]
        for entry in getattr(dis.Bytecode(code), "exception_entries", ())
    ]


def _record_reads(
    steps: list[dis.Instruction],
    index: int,
    code: CodeType,
    self_name: str | None,
    reads: CodeReads,
) -> None:
    """Record what an instruction looks up, judged with its neighbours."""
    step = steps[index]
    name = step.opname
    if name in _GLOBAL_LOADS:
        _record_global(steps, index, reads)
    elif name in _ATTRIBUTE_LOADS:
        reads.loose.add(step.argval)
    elif name in _SUPER_LOADS:
        reads.supers.add(step.argval)
    elif name == "IMPORT_NAME":
        level, names = steps[index - 2].argval, steps[index - 1].argval
        reads.imports.add(Import(step.argval, int(level or 0), tuple(names or ())))
    elif step.opcode in dis.hasconst and isinstance(step.argval, str):
        reads.loose.add(step.argval)
    if self_name is not None and _loads_last(step, self_name, code):
        _record_self(steps, index, reads)
    elif self_name is not None and _loads_first(step, self_name):
        reads.escapes = True


def _record_global(steps: list[dis.Instruction], index: int, reads: CodeReads) -> None:
    step = steps[index]
    if step.opname != "LOAD_GLOBAL" and any(
        other.opname == "STORE_NAME" and other.argval == step.argval for other in steps
    ):
        return  # a name of the class body
    chain = [step.argval]
    after = index + 1
    while after < len(steps) and steps[after].opname in _ATTRIBUTE_LOADS:
        chain.append(steps[after].argval)
        after += 1
    reads.globals.add(tuple(chain))
    if step.argval == "super":
        while after < len(steps) and steps[after].opname in _SUPER_CALLS:
            after += 1
        if after < len(steps) and steps[after].opname in _ATTRIBUTE_LOADS:
            reads.supers.add(steps[after].argval)


def _loads_last(step: dis.Instruction, name: str, code: CodeType) -> bool:
    """Return whether ``name`` is on top of the stack after the instruction.

    Python 3.13 loads two locals at once. Loading a cell to pass it to a nested function does not
    use the value.
    """
    if step.opname in ("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"):
        return bool(step.argval == name)
    if "LOAD_FAST" not in step.opname:
        return False
    if isinstance(step.argval, tuple):
        return bool(step.argval[-1] == name)
    return step.argval == name and name not in code.co_cellvars


def _loads_first(step: dis.Instruction, name: str) -> bool:
    loads_two = step.opname.startswith("LOAD_FAST") and isinstance(step.argval, tuple)
    return loads_two and name in step.argval[:-1]


def _record_self(steps: list[dis.Instruction], index: int, reads: CodeReads) -> None:
    after = steps[index + 1] if index + 1 < len(steps) else None
    if after is None:
        reads.escapes = True
    elif after.opname in _ATTRIBUTE_LOADS and after.argval not in ("__class__", "__dict__"):
        reads.attributes.add(after.argval)
    elif after.opname not in _ATTRIBUTE_WRITES and after.opname not in _SUPER_LOADS:
        reads.escapes = True
