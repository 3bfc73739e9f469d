"""A class and its bases as its methods reach them: attribute by attribute, through ``self``.

What a method reads on ``self`` or ``super()`` is followed by name, so that a fingerprint covers
those attributes and no others. If ``self`` is passed where it can't be followed (to a function, for
example), every attribute counts whose name is mentioned anywhere in the code that was read.
"""

from __future__ import annotations

from functools import partial
from types import FunctionType
from typing import Any

from lifecycle_magic.decorators.classes import unbound
from lifecycle_magic.fingerprint import origin
from lifecycle_magic.fingerprint.bytecode import CodeReads
from lifecycle_magic.fingerprint.origin import is_installed
from lifecycle_magic.fingerprint.own_attributes import annotations_of, is_bookkeeping, is_code
from lifecycle_magic.fingerprint.parts import Parts
from lifecycle_magic.wire.by_value import registered
from lifecycle_magic.wire.value_digest import digest

__all__ = ["BASE", "ORDER_OF_BASES", "ClassHierarchy"]


BASE = "base class "
"""How the name of a base begins among the parts of a fingerprint."""

ORDER_OF_BASES = "order of base classes"
"""The name of the order of bases, which changes with each base that comes or goes."""


class ClassHierarchy:
    """``cls`` and its bases, read into ``parts``. With None there is no class, and nothing to read.

    ``line`` are the class and its bases without `object`, ``reached`` the names that were referred
    to and found. ``escapes`` says that ``self`` was passed where it can't be followed.
    """

    def __init__(self, cls: type | None, parts: Parts) -> None:
        self.line: tuple[type, ...] = () if cls is None else cls.__mro__[:-1]
        self.reached: set[str] = set()
        self.escapes = False
        self._cls = cls
        self._parts = parts
        self._mentioned: set[str] = set()
        # The class by the id of a function; None for a static method, which has no self.
        self._owners: dict[int, type | None] = {}
        self._alive: list[FunctionType] = []

    def is_class_name(self, space: dict[str, Any], name: str) -> bool:
        """Return whether a global is the class itself, or the handle that replaced it."""
        cls = self._cls
        return cls is not None and name == cls.__name__ and space.get("__name__") == cls.__module__

    def owner(self, fn: FunctionType) -> type | None:
        """Return the class in the hierarchy that a function is a method of, also if it was wrapped
        later.

        A wrapped method is found only inside its wrapper; its qualified name says where it was
        written.
        """
        if id(fn) in self._owners:
            return self._owners[id(fn)]
        prefix = fn.__qualname__.rpartition(".")[0]
        for owner in self.line:
            if owner.__qualname__ == prefix and owner.__module__ == fn.__module__:
                return owner
        return None

    def refer_to_member(self, name: str, after: type | None = None) -> bytes:
        """Refer to the attribute ``name`` of the class, or of the classes ``after`` a base."""
        line = self.line if after is None else self.line[self.line.index(after) + 1 :]
        for owner in line:
            if name in vars(owner) and not is_bookkeeping(name):
                if is_installed(owner.__module__):
                    break
                self.reached.add(name)
                return self._refer_to_own(owner, name, vars(owner)[name])
        return digest(b"no member", name.encode())

    def refer_to_reads(self, reads: CodeReads, owner: type | None) -> list[bytes]:
        """Refer to what a function reads on ``self`` and ``super()``, if it is a method."""
        self._mentioned |= reads.loose
        if owner is None:
            return []
        self.escapes |= reads.escapes
        digests = [self.refer_to_member(name) for name in sorted(reads.attributes)]
        return digests + [self.refer_to_member(name, after=owner) for name in sorted(reads.supers)]

    def refer_to_mentioned(self) -> None:
        """Refer to everything that an escaped ``self`` may be asked for: all names mentioned so
        far.
        """
        for owner in self.line:
            for name in vars(owner):
                implicit = name.startswith("__") and name.endswith("__")
                if implicit or name in self._mentioned:
                    self.refer_to_member(name)

    def refer_to_structure(self) -> None:
        """Refer to the base classes, the metaclass and the annotations, each by itself."""
        cls = self._cls
        assert cls is not None
        refer = self._parts.refer
        refer("order of bases", f"{ORDER_OF_BASES} (order)", self._order_of_bases)
        for owner in self.line:
            name = owner.__name__
            if owner is not cls:
                refer(("base", owner), f"{BASE}{name} (base)", partial(_base, owner), owner)
            if is_installed(owner.__module__):
                continue
            for field, text in annotations_of(owner).items():
                label = f"annotation of {name}.{field} (annotation)"
                refer(("annotation", owner, field), label, partial(self._parts.encode, text), owner)
            if adopted := set(registered(owner)):
                label = f"classes registered with {name} (registered)"
                refer(("adopted", owner), label, partial(self._parts.encode, adopted), owner)

    def _refer_to_own(self, owner: type, name: str, value: Any) -> bytes:
        inner = unbound(value)
        if isinstance(inner, FunctionType):
            self._alive.append(inner)  # a freed function's id could be reused
            self._owners[id(inner)] = None if isinstance(value, staticmethod) else owner
        if inner is value and isinstance(value, FunctionType):
            return digest(b"member", name.encode(), self._parts.encode(value))
        kind = "method" if is_code(value) else "class variable"
        label = f"{owner.__name__}.{name} ({kind})"
        return self._parts.refer((owner, name), label, lambda: self._parts.encode(value))

    def _order_of_bases(self) -> bytes:
        return digest(*map(_base, self.line), self._parts.encode(type(self._cls)))


def _base(cls: type) -> bytes:
    """Return the name of a class in the hierarchy. Its attributes are parts of their own."""
    if is_installed(cls.__module__):
        return digest(b"base", (origin.qualified_name(cls, cls.__module__) or "").encode())
    return digest(b"family", cls.__qualname__.encode())
