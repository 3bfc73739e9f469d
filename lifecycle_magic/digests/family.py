"""A class and its bases as its methods reach them: attribute by attribute, by way of ``self``.

What a method reads on ``self`` or ``super()`` is followed by name, so that a fingerprint covers
those attributes and no others. Where ``self`` goes somewhere that can't be followed (it is handed
to a function, say), every attribute counts whose name is mentioned anywhere in what was read.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

from lifecycle_magic.digests import origin
from lifecycle_magic.digests.attributes import annotations_of, is_bookkeeping, is_code
from lifecycle_magic.digests.bytecode import CodeReads
from lifecycle_magic.digests.origin import is_installed
from lifecycle_magic.digests.parts import Parts
from lifecycle_magic.digests.values import digest

__all__ = ["Family"]


class Family:
    """``cls`` and its bases, read into ``parts``; with None there is no class, and nothing in it.

    ``line`` are the class and its bases without `object`, ``reached`` the names that were referred
    to and found. ``escapes`` says that ``self`` went where it can't be followed.
    """

    def __init__(self, cls: type | None, parts: Parts) -> None:
        self.line: tuple[type, ...] = () if cls is None else cls.__mro__[:-1]
        self.reached: set[str] = set()
        self.escapes = False
        self._cls = cls
        self._parts = parts
        self._mentioned: set[str] = set()
        # By the id of a function; None for a static method, which has no self.
        self._owners: dict[int, type | None] = {}
        self._alive: list[FunctionType] = []

    def is_called(self, space: dict[str, Any], name: str) -> bool:
        """Whether a global is the class itself, or the handle that took its place."""
        cls = self._cls
        return cls is not None and name == cls.__name__ and space.get("__name__") == cls.__module__

    def owner(self, fn: FunctionType) -> type | None:
        """The class of the family that a function is a method of, or was one until it was wrapped.

        A wrapped method is found only inside its wrapper; its name tells where it was written.
        """
        if id(fn) in self._owners:
            return self._owners[id(fn)]
        prefix = fn.__qualname__.rpartition(".")[0]
        for owner in self.line:
            if owner.__qualname__ == prefix and owner.__module__ == fn.__module__:
                return owner
        return None

    def member(self, name: str, after: type | None = None) -> bytes:
        """Refer to the attribute ``name`` of the class, or of what comes ``after`` a base."""
        line = self.line if after is None else self.line[self.line.index(after) + 1 :]
        for owner in line:
            if name in vars(owner) and not is_bookkeeping(name):
                if is_installed(owner.__module__):
                    break
                self.reached.add(name)
                return self._own_member(owner, name, vars(owner)[name])
        return digest(b"no member", name.encode())

    def reached_by(self, reads: CodeReads, owner: type | None) -> list[bytes]:
        """Refer to what a function reads on ``self`` and ``super()``, if it is a method."""
        self._mentioned |= reads.loose
        if owner is None:
            return []
        self.escapes |= reads.escapes
        told = [self.member(name) for name in sorted(reads.attributes)]
        return told + [self.member(name, after=owner) for name in sorted(reads.supers)]

    def refer_to_mentioned(self) -> None:
        """Refer to what may be read of a ``self`` that escaped: all that was mentioned so far."""
        for owner in self.line:
            for name in vars(owner):
                implicit = name.startswith("__") and name.endswith("__")
                if implicit or name in self._mentioned:
                    self.member(name)

    def refer_to_structure(self) -> None:
        """Refer to the line of base classes, the metaclass and the annotations."""
        assert self._cls is not None
        self._parts.refer(
            ("structure",), f"{self._cls.__name__} (bases and annotations)", self._structure
        )

    def _own_member(self, owner: type, name: str, value: Any) -> bytes:
        inner = getattr(value, "__func__", value)
        if isinstance(inner, FunctionType):
            self._alive.append(inner)  # freed, its id could be another's
            self._owners[id(inner)] = None if isinstance(value, staticmethod) else owner
        if inner is value and isinstance(value, FunctionType):
            return digest(b"member", name.encode(), self._parts.encode(value))
        kind = "method" if is_code(value) else "class variable"
        label = f"{owner.__name__}.{name} ({kind})"
        return self._parts.refer((owner, name), label, lambda: self._parts.encode(value))

    def _structure(self) -> bytes:
        line = [
            digest(b"family", owner.__qualname__.encode())
            if not is_installed(owner.__module__)
            else digest(b"base", (origin.named(owner, owner.__module__) or "").encode())
            for owner in self.line
        ]
        notes = [annotations_of(one) for one in self.line if not is_installed(one.__module__)]
        encode = self._parts.encode
        return digest(b"structure", *line, encode(type(self._cls)), encode(notes))
