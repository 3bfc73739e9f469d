"""An instance's attributes, as far as they are known without creating an instance.

An argument that the constructor stores as it is (``self.size = size``) can be read from the
arguments, if no other code of the class writes that attribute. All of it is found in code objects;
no code of the user's runs.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from lifecycle_magic.decorators.classes import unbound, unwrapped
from lifecycle_magic.decorators.parameters import parameters_of
from lifecycle_magic.fingerprint.origin import is_installed
from lifecycle_magic.wire.code_objects import with_nested_codes

__all__ = ["InstanceAttributes"]

_VARARGS, _VARKEYWORDS = 0x04, 0x08  # flags of code objects: *args, **kwargs


@dataclass(frozen=True)
class InstanceAttributes:
    """The attributes of a class's instances.

    ``arguments`` maps an attribute to the constructor's parameter that it holds; ``written`` are
    the names that any method of the class may assign.
    """

    arguments: Mapping[str, str]
    written: frozenset[str]

    @classmethod
    def of(cls, made: type) -> InstanceAttributes:
        """Read a class."""
        stored = _stored(made)
        constructor = _constructor(made)
        others = [fn for fn in _functions(made) if fn is not constructor]
        changed = frozenset(name for fn in others for name in _assigned(fn.__code__))
        written = changed | frozenset(_assigned(constructor.__code__) if constructor else ())
        return cls({k: v for k, v in stored.items() if k not in changed}, written)


def _stored(cls: type) -> dict[str, str]:
    """Return the attributes that hold an argument of the constructor: by name, the parameter."""
    fields = parameters_of(cls)
    if fields:
        return {name: name for name, field in fields.items() if field.init}
    constructor = _constructor(cls)
    if constructor is None:
        return {}
    if _is_generated(cls, constructor):
        return {
            field.name: field.name
            for field in dataclasses.fields(cls)
            if field.init and field.default_factory is dataclasses.MISSING
        }
    return dict(_stored_by(constructor.__code__))


def _constructor(cls: type) -> FunctionType | None:
    found = getattr(cls, "__init__", None)
    return found if isinstance(found, FunctionType) else None


def _is_generated(cls: type, constructor: FunctionType) -> bool:
    """Return whether ``@dataclass`` wrote the constructor."""
    return dataclasses.is_dataclass(cls) and constructor.__code__.co_filename == "<string>"


def _functions(cls: type) -> Iterator[FunctionType]:
    """Return every function that is written in the class or in a base that is the user's own."""
    for owner in cls.__mro__[:-1]:
        if is_installed(owner.__module__):
            continue
        for value in vars(owner).values():
            yield from _inside(value)


def _inside(value: Any, depth: int = 3) -> Iterator[FunctionType]:
    """Return the functions that an attribute of a class is made of, those it wraps included."""
    if isinstance(value, property):
        parts: list[Any] = [value.fget, value.fset, value.fdel]
    elif isinstance(value, functools.cached_property):
        parts = [value.func]
    elif isinstance(value, FunctionType):
        yield value
        parts = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
    else:
        parts = [one for one in (unbound(value), unwrapped(value)) if one is not value]
    for part in parts if depth else ():
        if isinstance(part, (FunctionType, property, staticmethod, classmethod)):
            yield from _inside(part, depth - 1)


def _is_filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _assigned(code: CodeType) -> Iterator[str]:
    """Return the attributes that a function assigns or deletes, of whatever object."""
    for one in with_nested_codes(code):
        for instruction in dis.get_instructions(one):
            if instruction.opname in ("STORE_ATTR", "DELETE_ATTR"):
                yield instruction.argval


def _stored_by(code: CodeType) -> Iterator[tuple[str, str]]:
    """Return what ``self.name = parameter`` statements of a constructor always store.

    Each attribute counts if it is stored once, before any branch, from a parameter that is never
    reassigned.
    """
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & _VARARGS) + bool(code.co_flags & _VARKEYWORDS)
    if not code.co_argcount:
        return
    self, *parameters = code.co_varnames[:count]
    stack: list[str] = []  # the local variables that lie on top, as far as they are known
    stores: list[tuple[str, str]] = []
    instructions = list(dis.get_instructions(code))
    changed = {
        name
        for instruction in instructions
        if instruction.opname.startswith(("STORE_FAST", "DELETE_FAST"))
        for name in _names(instruction.argval)
    }
    assigned = list(_assigned(code))
    for instruction in instructions:
        kind, value = instruction.opname, instruction.argval
        if "JUMP" in kind or kind == "FOR_ITER":
            break
        if kind.startswith("LOAD_FAST"):
            stack += _names(value)
        elif kind in ("SWAP", "ROT_TWO") and len(stack) >= (value or 2):
            other = -(value or 2)
            stack[-1], stack[other] = stack[other], stack[-1]
        elif kind == "ROT_THREE" and len(stack) >= 3:
            stack.insert(-2, stack.pop())
        elif kind == "STORE_ATTR" and len(stack) >= 2 and stack[-1] == self:
            stores.append((value, stack[-2]))
            del stack[-2:]
        else:
            stack = []
    for attribute, parameter in stores:
        is_plain = parameter in parameters and parameter not in changed
        if is_plain and assigned.count(attribute) == 1:
            yield attribute, parameter


def _names(value: Any) -> tuple[str, ...]:
    """Return the variables of an instruction; since Python 3.13 some have two."""
    return (value,) if isinstance(value, str) else tuple(value)
