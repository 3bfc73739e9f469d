"""Names in annotations that are strings: quoted, or through ``from __future__ import annotations``.

FastAPI reads the annotations of a function's parameters. So the names in those strings have to
travel with a web method, and count as names that the method reads. In the bytecode they only appear
inside string constants.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from lifecycle_magic.decorators.marks import marks_of

if TYPE_CHECKING:
    from dis import Instruction


def names(function: FunctionType) -> set[str]:
    """Return the names in the annotations of a web method and of the functions that it defines.

    The set is empty for any other function: the names in its annotations may not exist where it
    runs.
    """
    marks = marks_of(function)
    if marks is None or marks.web is None or marks.web.kind not in ("fastapi_endpoint", "asgi_app"):
        return set()
    strings = [text for text in _annotations(function).values() if isinstance(text, str)]
    return {
        name for text in (*strings, *_strings_in_code(function.__code__)) for name in names_in(text)
    }


def names_in(text: str) -> Iterator[str]:
    """Yield the names in one annotation, also in a string inside it, as in ``list["Item"]``."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError):
        return  # not an annotation, or not valid Python
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from names_in(node.value)


def _annotations(function: FunctionType) -> dict[str, Any]:
    try:
        return function.__annotations__
    except NameError:  # Python 3.14 evaluates annotations late, and a name is missing
        return {}


# --- in bytecode ---------------------------------------------------------------------------------


def _strings_in_code(code: CodeType) -> Iterator[str]:
    """Yield the strings in annotations of the functions and classes that ``code`` defines."""
    import dis  # only web methods need it

    steps = list(dis.get_instructions(code))
    for at, step in enumerate(steps):
        if isinstance(step.argval, CodeType):
            yield from _strings_in_code(step.argval)
            yield from _function_strings(steps, at)
        elif step.argval == "__annotations__" and step.opname == "LOAD_NAME":
            yield from _constant_strings(_operands(steps, at, 1))  # of a class's attribute
    if code.co_name == "__annotate__":  # Python 3.14 builds the mapping in a separate function
        keys = _key_offsets(steps)
        yield from _constant_strings(step for step in steps if step.offset not in keys)


def _function_strings(steps: list[Instruction], at: int) -> Iterator[str]:
    """Yield the strings in the tuple (name, annotation, ...) that precedes the code at ``at``."""
    before = at - 1
    if before >= 0 and steps[before].opname == "BUILD_TUPLE":
        operands = _operands(steps, before, steps[before].arg or 0)
        if all(step.opname in ("LOAD_CLOSURE", "LOAD_FAST") for step in operands):
            before -= len(operands) + 1  # the cells that the function closes over
    if before < 0:
        return
    made = steps[before]
    if made.opname == "BUILD_TUPLE":
        parameters = _parameters(steps[at].argval)
        strings = _constant_strings(_operands(steps, before, made.arg or 0))
        yield from (text for text in strings if text not in parameters)
    elif isinstance(made.argval, tuple) and all(isinstance(one, str) for one in made.argval):
        yield from made.argval[1::2]


def _operands(steps: list[Instruction], end: int, count: int) -> list[Instruction]:
    """Return the instructions before ``end`` that push the last ``count`` values on the stack."""
    start = end
    while start > 0 and count > 0:
        start -= 1
        count -= _stack_effect(steps[start])
    return steps[start:end]


def _stack_effect(step: Instruction) -> int:
    """Return how many values an instruction adds to the stack."""
    import dis

    return dis.stack_effect(step.opcode, step.arg if step.opcode >= dis.HAVE_ARGUMENT else None)


def _key_offsets(steps: list[Instruction]) -> set[int]:
    """Return the offsets of the instructions that load the names of annotated things."""
    found = {
        name.offset for name, step in itertools.pairwise(steps) if step.opname == "STORE_SUBSCR"
    }
    for at, step in enumerate(steps):
        if step.opname == "BUILD_MAP" and step.arg:
            operands = _operands(steps, at, 2 * step.arg)
            heights = [*itertools.accumulate(map(_stack_effect, operands), initial=0)]
            # Names and annotations alternate on the stack, and a name stays there until the end.
            found |= {
                one.offset
                for n, one in enumerate(operands)
                if heights[n] % 2 == 0 and min(heights[n + 1 :]) > heights[n]
            }
    return found


def _constant_strings(steps: Iterable[Instruction]) -> Iterator[str]:
    for step in steps:
        if step.opname == "LOAD_CONST" and isinstance(step.argval, str):
            yield step.argval


def _parameters(code: CodeType) -> tuple[str, ...]:
    from inspect import CO_VARARGS, CO_VARKEYWORDS

    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & CO_VARARGS) + bool(code.co_flags & CO_VARKEYWORDS)
    return (*code.co_varnames[:count], "return")
