"""Comparison of values that each belong to a separate copy of the user's code.

The same stream of definitions is read more than once: as it was declared, as it lives, and as it is
declared now. Corresponding objects in these copies are *paired*, and then count as the same
wherever a value refers to them, even if they are written differently.
"""

from __future__ import annotations

import functools
import marshal
import sys
from contextvars import ContextVar
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.guest.own_class import CALL_MARKERS
from lifecycle_magic.wire import context_variables, native_types
from lifecycle_magic.wire.by_value import OF_ENUMS, is_enum, is_named, written_in
from lifecycle_magic.wire.pydantic_models import declared, is_derived
from lifecycle_magic.wire.value_digest import UnreadableValue, ValueDigester, digest

__all__ = ["MISSING", "ContentReader", "behaviour"]

MISSING: Any = type("Missing", (), {"__repr__": lambda _: "<missing>"})()
"""Placeholder for a name that does not exist."""

_MAX_VALUES = 5_000_000
_WEAK = ("WeakKeyDictionary", "WeakValueDictionary", "WeakSet")


class ContentReader:
    """Digests of the values in one copy. ``pairs`` are the numbers of paired objects, by ``id``."""

    def __init__(self, pairs: dict[int, int]) -> None:
        self._pairs = pairs
        self._open: list[int] = []
        self._values = ValueDigester(self._special, _MAX_VALUES)

    def of(self, value: object) -> bytes | None:
        """Return bytes that represent the content of a value; None if it can't be read."""
        if value is MISSING:
            return b"missing"
        try:
            return self._values.encode(value)
        except UnreadableValue:
            return None

    def _special(self, value: Any) -> bytes | None:
        number = self._pairs.get(id(value))
        if number is not None:
            return digest(b"pair", str(number).encode())
        kind = type(value)
        if kind is FunctionType or is_class(value) or kind is CellType:
            if kind is not CellType and (is_named(value) or _is_native(value)):
                return digest(b"named", f"{value.__module__}.{value.__qualname__}".encode())
            return self._definition(value)
        if kind is ModuleType:
            name = value.__name__
            if sys.modules.get(name) is value:
                return digest(b"module", name.encode())
            # Made by the notebook's code, and sent with its content.
            content = {k: v for k, v in sorted(vars(value).items()) if k[:2] != "__"}
            return self._digest("module", name, content)
        if kind is CodeType:
            return behaviour(value)
        if kind is property:
            return self._digest("property", value.fget, value.fset, value.fdel)
        if kind in (staticmethod, classmethod):
            return self._digest(kind.__name__, value.__func__)
        if kind.__module__ == "functools":
            return self._of_functools(value)
        if kind.__module__ == "weakref" and kind.__name__ in _WEAK:
            return digest(b"weak")  # its content belongs to other objects
        if kind is ContextVar or kind is context_variables.ComparedVariable:
            return digest(b"context variable", repr(context_variables.mark_of(value)).encode())
        user_part = declared(value)
        return None if user_part is None else self._values.encode(user_part)

    def _of_functools(self, value: Any) -> bytes | None:
        if isinstance(value, functools.cached_property):
            return self._digest("cached_property", value.func, value.attrname)
        if is_cached(value):
            return self._digest("lru_cache", value.__wrapped__, value.cache_parameters())
        return None

    def _definition(self, value: Any) -> bytes:
        """Return the content of a function, class or cell without a pair. It may refer to
        itself.
        """
        if id(value) in self._open:
            return digest(b"again", str(self._open[::-1].index(id(value))).encode())
        self._open.append(id(value))
        try:
            if is_class(value):
                content = value.__qualname__, type(value), value.__bases__, _declared_in(value)
                return self._digest("class", *content)
            if isinstance(value, CellType):
                return self._digest("cell", *([value.cell_contents] if _is_full(value) else []))
            defaults = value.__defaults__, value.__kwdefaults__
            cells = value.__closure__ or ()
            own = {k: v for k, v in value.__dict__.items() if type(v) not in CALL_MARKERS}
            return self._digest("function", value.__code__, defaults, own, list(cells))
        finally:
            self._open.pop()

    def _digest(self, kind: str, *parts: Any) -> bytes:
        return digest(kind.encode(), *map(self._values.encode, parts))


def _is_native(value: Any) -> bool:
    """Return whether a value is a type written in C, such as that of None: it has no definition."""
    return is_class(value) and native_types.is_native(value)


def is_cached(value: Any) -> bool:
    """Return whether a value is a function with a ``functools.lru_cache``.

    Only the type is checked: an object of the user's code may have any attribute.
    """
    return type(value).__name__ == "_lru_cache_wrapper"


def _declared_in(cls: type) -> dict[str, Any]:
    """Return the attributes of a class, without those that libraries and Python add later."""
    found = {k: v for k, v in sorted(written_in(cls).items()) if not is_derived(k)}
    found.pop("__signature__", None)
    if not is_enum(cls):
        return found
    members: dict[str, Any] = cls.__members__  # type: ignore[attr-defined]
    own = {name: value for name, value in found.items() if name not in OF_ENUMS}
    return {**own, **{name: one.value for name, one in members.items()}}


def _is_full(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def behaviour(code: CodeType) -> bytes:
    """Return bytes that represent what code does, wherever it is written."""
    constants = map(_constant, code.co_consts)
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_name)
    numbers = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    table = getattr(code, "co_exceptiontable", b"")
    return digest(b"code", code.co_code, table, repr((names, numbers)).encode(), *constants)


def _constant(value: Any) -> bytes:
    if isinstance(value, CodeType):
        return behaviour(value)
    name = type(value).__name__.encode()
    if isinstance(value, slice):  # since Python 3.14
        return digest(name, *map(_constant, (value.start, value.stop, value.step)))
    if isinstance(value, tuple):
        return digest(name, *map(_constant, value))
    try:
        return marshal.dumps(value, 2) + name
    except ValueError:  # of another type, which no compiler puts there
        return repr(value).encode() + name
