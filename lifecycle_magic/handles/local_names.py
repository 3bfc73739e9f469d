"""A check for code that behaves differently in ``.local()``, where its class's name is a handle.

A handle supports nearly everything that its class does. But it is not a type, so ``super(A, self)``
raises a TypeError, and ``type(self) is A`` is false.
"""

from __future__ import annotations

import dis
from types import FunctionType
from typing import Any

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.decorators.marks import function_of
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.wire.code_objects import with_nested_codes

__all__ = ["check"]

_COMPARES = ("==", "!=")


def check(cls: type) -> None:
    """Raise `InvalidError` for code of a class that needs a type where it would find a handle."""
    for owner in cls.__mro__[:-1]:
        for value in list(vars(owner).values()):
            function = None if is_class(value) else function_of(value)
            if isinstance(function, FunctionType):
                _check(function)


def _check(function: FunctionType) -> None:
    for code in with_nested_codes(function.__code__):
        before = None
        for one in dis.get_instructions(code):
            if one.opname in ("CACHE", "PUSH_NULL", "EXTENDED_ARG"):
                continue
            if before is not None:
                _check_pair(function, before, one)
            before = one


def _check_pair(function: FunctionType, one: dis.Instruction, other: dis.Instruction) -> None:
    if one.opname != "LOAD_GLOBAL":
        return
    if one.argval == "super" and other.opname == "LOAD_GLOBAL":
        if _is_handle(function, other.argval):
            raise _refused(function, f"super({other.argval}, ...)", "super()")
    elif _is_handle(function, one.argval):
        name = one.argval
        if other.opname == "IS_OP":
            operator = "is not" if other.arg else "is"
        elif other.opname == "COMPARE_OP" and str(other.argval) in _COMPARES:
            operator = str(other.argval)
        else:
            return
        raise _refused(function, f"... {operator} {name}", f"isinstance(..., {name})")


def _is_handle(function: FunctionType, name: Any) -> bool:
    kind = type(function.__globals__.get(name))
    return kind.__module__.startswith("lifecycle_magic.handles") and kind.__name__ == "Cls"


def _refused(function: FunctionType, written: str, fix: str) -> InvalidError:
    return InvalidError(
        f"{function.__qualname__} has {written}: .local() runs it in this process, where that name "
        f"is a handle and not a type. Fix: write {fix}, or call .remote()"
    )
