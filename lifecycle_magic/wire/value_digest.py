"""Digest of the content of any value, the same in every process.

Builtin containers are read directly. The order of a dict is part of its content; that of a set is
not, it differs between processes. Everything else is taken apart as pickle does it
(``__reduce_ex__(5)``), but without pickle's bytes, which depend on set order and on which equal
objects are the same object. A value may contain itself. A value that can't be taken apart raises
`UnreadableValue`.
"""

from __future__ import annotations

import copyreg
import enum
import hashlib
import marshal
import pickle
import sys
from collections.abc import Callable
from pathlib import PurePath
from types import BuiltinFunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

from lifecycle_magic.wire.reading_values import despite_filters
from lifecycle_magic.wire.reducers import place_of, reducer_of

__all__ = ["UnreadableValue", "ValueDigester", "digest"]

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))
_UNSHARED = frozenset({type(None), bool, int, float, complex, str, bytes})
_MARSHAL_FROM_ITEMS = 64  # a list of plain values from this length goes through marshal
_MOST_BITS_IN_DECIMAL = 2000  # Python may refuse to write more than 640 digits (2122 bits)
_MAX_VALUES = 300_000  # values inside one value; reading more takes too long for a cell
_NO_CYCLE = 1 << 30


class UnreadableValue(Exception):
    """A value has no content that can be read. The message is its type."""


def digest(*pieces: bytes) -> bytes:
    """Return one digest (32 bytes) of the pieces and of where each one ends."""
    made = hashlib.sha256()
    for piece in pieces:
        made.update(len(piece).to_bytes(8, "little"))
        made.update(piece)
    return made.digest()


class ValueDigester:
    """Digests of values. ``special`` is called first for each object and may return its digest.

    A value that consists of more than ``most`` values raises `UnreadableValue`.
    """

    def __init__(self, special: Callable[[object], bytes | None], most: int = _MAX_VALUES) -> None:
        self._special = special
        self._most = most
        self._known: dict[int, bytes] = {}
        self._open: dict[int, int] = {}
        self._alive: list[object] = []
        self._lowest = _NO_CYCLE
        self._count = 0

    def encode(self, value: object) -> bytes:
        """Return bytes that represent ``value`` as a piece of a `digest`. Raises
        `UnreadableValue`.
        """
        outermost = not self._open
        if outermost:
            self._count = 0
        try:
            return self._encode(value)
        except RecursionError:
            if not outermost:
                raise
            raise UnreadableValue(f"{type(value).__qualname__} (nested too deeply)") from None
        finally:
            if outermost:
                self._open.clear()
                self._lowest = _NO_CYCLE

    def _encode(self, value: Any) -> bytes:
        self._count += 1
        if self._count > self._most:
            raise UnreadableValue(f"more than {self._most} values")
        if type(value) in _PLAIN:
            return _plain(value)
        found = self._special(value)
        if found is not None:
            return found
        return self._compound(value)

    def _compound(self, value: Any) -> bytes:
        """Read an object once, also if it contains itself."""
        key = id(value)
        if key in self._known:
            return self._known[key]
        if key in self._open:
            self._lowest = min(self._lowest, self._open[key])
            return digest(b"cycle", str(len(self._open) - self._open[key]).encode())
        depth = self._open[key] = len(self._open)
        outer, self._lowest = self._lowest, _NO_CYCLE
        try:
            made = self._take_apart(value)
        except BaseException:
            self._lowest = outer
            raise
        finally:
            self._open.pop(key, None)
        if self._lowest >= depth:  # it refers to nothing around it: valid anywhere
            self._known[key] = made
            self._alive.append(value)
            self._lowest = outer
        else:
            self._lowest = min(outer, self._lowest)
        return made

    def _take_apart(self, value: Any) -> bytes:
        kind = type(value)
        if kind in (list, tuple):
            return self._sequence(kind.__name__, value)
        if kind in (set, frozenset):
            return digest(kind.__name__.encode(), *sorted(map(self._encode, value)))
        if kind in (dict, MappingProxyType):
            return self._mapping(value)
        if kind is bytearray:
            return digest(b"bytearray", bytes(value))
        if isinstance(value, (memoryview, pickle.PickleBuffer)):
            return digest(b"buffer", memoryview(value).tobytes())
        if isinstance(value, enum.Enum):
            return digest(b"enum", self._encode(kind), value.name.encode())
        if kind is MethodType:
            place = _place_in_library(value)
            if place is not None:
                return digest(b"builtin", ".".join(place).encode())
            return digest(b"bound", self._encode(value.__self__), self._encode(value.__func__))
        if kind is BuiltinFunctionType:
            return self._builtin(value)
        if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
            return self._array(value)
        return self._reduce(value)

    def _sequence(self, name: str, value: Any) -> bytes:
        if len(value) >= _MARSHAL_FROM_ITEMS and set(map(type, value)) <= _UNSHARED:
            # Version 2 has no references, so identical and equal objects give the same bytes.
            return digest(name.encode(), b"marshal", marshal.dumps(value, 2))
        return digest(name.encode(), *map(self._encode, value))

    def _mapping(self, value: Any) -> bytes:
        pairs = [digest(self._encode(k), self._encode(v)) for k, v in value.items()]
        return digest(b"dict", *pairs)

    def _builtin(self, value: Any) -> bytes:
        owner = value.__self__
        if owner is None or isinstance(owner, ModuleType):
            return digest(b"builtin", f"{value.__module__}.{value.__qualname__}".encode())
        if (place := _place_in_library(value)) is not None:
            return digest(b"builtin", ".".join(place).encode())
        return digest(b"bound builtin", self._encode(owner), value.__name__.encode())

    def _array(self, value: Any) -> bytes:
        kind = value.dtype
        shape = str((kind.descr if kind.names else kind.str, value.shape)).encode()
        if kind.hasobject:
            return digest(b"objects", shape, self._encode(value.tolist()))
        return digest(b"array", shape, value.tobytes())

    def _reduce(self, value: Any) -> bytes:
        kind = type(value)
        try:
            own = copyreg.dispatch_table.get(kind)
            reduced = despite_filters(
                lambda: own(value) if own is not None else value.__reduce_ex__(5)
            )
        except Exception as error:  # any error of a type that can't be taken apart
            reduced = _reduced_by_us(value)
            if reduced is None:
                raise UnreadableValue(kind.__qualname__) from error
        if isinstance(reduced, str):
            home = getattr(value, "__module__", None) or kind.__module__
            wrapped = getattr(value, "__dict__", {}).get("__wrapped__")
            return digest(b"global", f"{home}.{reduced}".encode(), self._encode(wrapped))
        make, args, state, items, pairs, _ = (*reduced, None, None, None, None)[:6]
        encoded = [self._encode(make), *(self._encode(arg) for arg in args), self._encode(state)]
        encoded += [self._encode(item) for item in items or ()]
        encoded += [digest(self._encode(k), self._encode(v)) for k, v in pairs or ()]
        return digest(b"object", *encoded)


def _place_in_library(method: Any) -> tuple[str, str] | None:
    """Return module and name of a method that a module of a library has as its own.

    What the method's object holds, such as the state of `random`, stays in the notebook.
    """
    place = place_of(method)
    if place is None or place[0].partition(".")[0] in sys.stdlib_module_names:
        return place
    file = getattr(sys.modules.get(place[0]), "__file__", None) or ""
    return place if {"site-packages", "dist-packages"} & set(PurePath(file).parts) else None


def _reduced_by_us(value: Any) -> Any:
    """Return what takes apart an object that pickle refuses, as it travels; None for none."""
    reducer = reducer_of(type(value))
    try:
        return None if reducer is None else reducer(value)
    except TypeError:  # it can't travel
        return None


def _plain(value: Any) -> bytes:
    """Return the type and content, hashed only if long: most values are short, and there are
    many.
    """
    kind = type(value).__name__.encode()
    if isinstance(value, bytes):
        content = value
    elif isinstance(value, int) and value.bit_length() > _MOST_BITS_IN_DECIMAL:
        content = hex(value).encode()
    else:
        content = repr(value).encode()
    return kind + b":" + content if len(content) < 64 else digest(kind, content)
