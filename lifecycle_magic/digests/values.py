"""The content of any value as a digest, the same in every process.

Builtin containers are read as such: sets and dicts whatever their order. Everything else is read
the way pickle would take it apart (``__reduce_ex__(5)``), but without pickle's bytes, which depend
on set order and on which equal objects happen to be one. A value that holds itself is fine.
What refuses to be taken apart raises `Unreadable`.
"""

from __future__ import annotations

import copyreg
import enum
import hashlib
import marshal
import pickle
from collections import OrderedDict
from collections.abc import Callable
from types import BuiltinFunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

__all__ = ["Unreadable", "Values", "digest"]

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))
_UNSHARED = frozenset({type(None), bool, int, float, complex, str, bytes})
_LONG = 64  # from here on a list of plain values goes through marshal in one step
_MOST = 300_000  # values inside one value; beyond, reading takes longer than a cell may
_FAR = 1 << 30


class Unreadable(Exception):
    """A value has no content that can be read; the text is its type."""


def digest(*pieces: bytes) -> bytes:
    """One digest (32 bytes) of pieces, with where each ends."""
    made = hashlib.sha256()
    for piece in pieces:
        made.update(len(piece).to_bytes(8, "little"))
        made.update(piece)
    return made.digest()


class Values:
    """Reads values; ``special`` is asked first about each object and may return its digest."""

    def __init__(self, special: Callable[[object], bytes | None]) -> None:
        self._special = special
        self._known: dict[int, bytes] = {}
        self._open: dict[int, int] = {}
        self._alive: list[object] = []
        self._lowest = _FAR
        self._count = 0

    def encode(self, value: object) -> bytes:
        """What stands for ``value`` as a piece of a `digest`; raises `Unreadable`."""
        outermost = not self._open
        if outermost:
            self._count = 0
        try:
            return self._encode(value)
        except RecursionError:
            if not outermost:
                raise
            raise Unreadable(f"{type(value).__qualname__} (nested too deeply)") from None
        finally:
            if outermost:
                self._open.clear()
                self._lowest = _FAR

    def _encode(self, value: Any) -> bytes:
        self._count += 1
        if self._count > _MOST:
            raise Unreadable(f"more than {_MOST} values")
        if type(value) in _PLAIN:
            return _plain(value)
        found = self._special(value)
        if found is not None:
            return found
        return self._compound(value)

    def _compound(self, value: Any) -> bytes:
        """Read an object once, also if it is inside itself."""
        key = id(value)
        if key in self._known:
            return self._known[key]
        if key in self._open:
            self._lowest = min(self._lowest, self._open[key])
            return digest(b"cycle", str(len(self._open) - self._open[key]).encode())
        depth = self._open[key] = len(self._open)
        outer, self._lowest = self._lowest, _FAR
        try:
            made = self._take_apart(value)
        except BaseException:
            self._lowest = outer
            raise
        finally:
            self._open.pop(key, None)
        if self._lowest >= depth:  # it refers to nothing around it: good anywhere
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
            return digest(b"bound", self._encode(value.__self__), self._encode(value.__func__))
        if kind is BuiltinFunctionType:
            return self._builtin(value)
        if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
            return self._array(value)
        return self._reduce(value)

    def _sequence(self, name: str, value: Any) -> bytes:
        if len(value) >= _LONG and set(map(type, value)) <= _UNSHARED:
            # Version 2 knows no references, so which equal values are one does not show.
            return digest(name.encode(), b"marshal", marshal.dumps(value, 2))
        return digest(name.encode(), *map(self._encode, value))

    def _mapping(self, value: Any) -> bytes:
        pairs = [digest(self._encode(k), self._encode(v)) for k, v in value.items()]
        return digest(b"dict", *sorted(pairs))

    def _builtin(self, value: Any) -> bytes:
        owner = value.__self__
        if owner is None or isinstance(owner, ModuleType):
            return digest(b"builtin", f"{value.__module__}.{value.__qualname__}".encode())
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
            reduced = own(value) if own is not None else value.__reduce_ex__(5)
        except Exception as error:  # whatever a type raises to say that it can't
            raise Unreadable(kind.__qualname__) from error
        if isinstance(reduced, str):
            home = getattr(value, "__module__", None) or kind.__module__
            wrapped = getattr(value, "__dict__", {}).get("__wrapped__")
            return digest(b"global", f"{home}.{reduced}".encode(), self._encode(wrapped))
        make, args, state, items, pairs, _ = (*reduced, None, None, None, None)[:6]
        told = [self._encode(make), *(self._encode(arg) for arg in args), self._encode(state)]
        told += [self._encode(item) for item in items or ()]
        each = [digest(self._encode(k), self._encode(v)) for k, v in pairs or ()]
        told += each if isinstance(value, OrderedDict) else sorted(each)
        return digest(b"object", *told)


def _plain(value: Any) -> bytes:
    """The type and content; hashed only if it is long, as most are not and there are many."""
    kind = type(value).__name__.encode()
    content = value if isinstance(value, bytes) else repr(value).encode()
    return kind + b":" + content if len(content) < 64 else digest(kind, content)
