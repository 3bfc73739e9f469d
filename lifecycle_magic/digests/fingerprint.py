"""A digest of code and of everything that it reads.

Two digests are equal when the code does the same with the same values: after a restart of the
kernel, with another hash seed, with other comments, line breaks and docstrings, wherever
the cell is. They differ when the code, a default, a closed-over value or a global that it reads
differs, however many functions away.

The result is a set of named *parts*, each with a digest of its own content in which other parts
appear by name only. So two fingerprints can be compared part by part to say what changed. How deep
reading goes depends on where a thing comes from:

- written by the user (``__main__``, the class's own module): by content;
- modules beside the notebook: by their files, which is what containers import;
- installed (standard library, site-packages): by qualified name and the module's version;
- ours: by name.

Nothing is left out silently: what has no content that can be read (a socket, a lock, a
generator), or is looked up by a text (``globals()["X"]``), is named in `Fingerprint.unreadable`.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import CodeType, FunctionType, MappingProxyType, ModuleType
from typing import Any

from lifecycle_magic.digests import bytecode, origin
from lifecycle_magic.digests.absent import Absent
from lifecycle_magic.digests.attributes import annotations_of, written_in
from lifecycle_magic.digests.beside import BY_TEXT, Beside
from lifecycle_magic.digests.family import Family
from lifecycle_magic.digests.origin import is_installed
from lifecycle_magic.digests.parts import Parts
from lifecycle_magic.digests.values import digest
from lifecycle_magic.hooks import Parameter, travel
from lifecycle_magic.marks import ATTRIBUTE, marks_of
from lifecycle_magic.wire.annotations import names

__all__ = ["Fingerprint", "of_function", "of_members", "of_value"]


@dataclass(frozen=True)
class Fingerprint:
    """The digest (hex), the parts it is made of, and what could not be read.

    ``parts`` maps a name for people (``"LIMIT (constant)"``, ``"helper() (function)"``) to the
    digest of that part. ``members`` are the names on the class (``within``) that were reached,
    ``modules`` the files of the modules beside the notebook, by name.
    """

    digest: str
    parts: Mapping[str, str]
    unreadable: tuple[str, ...]
    members: frozenset[str] = frozenset()
    modules: Mapping[str, str] = field(default_factory=dict)


def of_function(fn: Any, *, within: type | None = None) -> Fingerprint:
    """The fingerprint of a function; of ``within`` it covers what ``fn`` reaches by ``self``.

    >>> of_function(lambda x: x + 1).digest == of_function(lambda x: x + 1).digest
    True
    """
    reader = _Reader(within, getattr(fn, "__module__", None))
    return reader.finish(reader.encode(fn))


def of_value(value: object, *, label: str = "value") -> Fingerprint:
    """The fingerprint of a value; ``label`` names it in `Fingerprint.unreadable`."""
    reader = _Reader(None)
    return reader.finish(reader.parts.labelled(label, value))


def of_members(cls: type, names: Iterable[str], *, structure: bool = True) -> Fingerprint:
    """The fingerprint of some attributes of ``cls`` and of what they reach of it.

    With ``structure`` it covers the line of base classes and the annotations as well.
    """
    reader = _Reader(cls)
    roots = [reader.family.member(name) for name in sorted(names)]
    if structure:
        reader.family.refer_to_structure()
    return reader.finish(digest(b"members", *roots))


class _Reader:
    """One walk from its roots: what code, classes and modules mean, and what names refer to."""

    def __init__(self, within: type | None, own: str | None = None) -> None:
        self.parts = Parts(self.special)
        self.family = Family(within, self.parts)
        self.beside = Beside(own if within is None else within.__module__, self.parts)

    def finish(self, root: bytes) -> Fingerprint:
        while self.parts.read_waiting() and self.family.escapes:
            self.family.refer_to_mentioned()
        parts = dict(sorted(self.parts.digests.items()))
        told = [digest(name.encode(), part) for name, part in parts.items()]
        return Fingerprint(
            digest=digest(b"fingerprint", root, *told).hex(),
            parts=MappingProxyType({name: part.hex() for name, part in parts.items()}),
            unreadable=self.parts.unreadable,
            members=frozenset(self.family.reached),
            modules=MappingProxyType(dict(self.beside.modules)),
        )

    def encode(self, value: object) -> bytes:
        return self.parts.encode(value)

    # -- values with a meaning of their own: code, classes, modules ------------------------

    def special(self, value: object) -> bytes | None:
        """Called by `Values` for each object first; None hands it back."""
        kind = type(value)
        if isinstance(value, FunctionType):
            return self.function(value)
        if isinstance(value, type):
            return self.cls(value)
        if isinstance(value, Absent):
            return digest(b"absent", value.__name__.encode())
        if isinstance(value, ModuleType):
            return self.module(value)
        if isinstance(value, CodeType):
            return self.encode(bytecode.read(value).canonical)
        if isinstance(value, Parameter):
            return digest(b"parameter", self.encode([value.init, value.default]))
        if origin.is_ours(kind.__module__):
            return self.ours(value)
        if isinstance(value, property):
            return digest(b"property", *map(self.encode, (value.fget, value.fset, value.fdel)))
        if isinstance(value, (staticmethod, classmethod)):
            return digest(kind.__name__.encode(), self.encode(value.__func__))
        if isinstance(value, functools.cached_property):
            return digest(b"cached_property", self.encode(value.func))
        if kind.__module__ == "functools" and hasattr(value, "__wrapped__"):
            return digest(kind.__name__.encode(), self.encode(value.__wrapped__))
        return None

    def ours(self, value: object) -> bytes | None:
        plain = _plain(value)
        if plain is not value:
            return self.encode(plain)
        if "__reduce__" in vars(type(value)):  # it knows how it travels
            return None
        return digest(b"ours", type(value).__qualname__.encode())

    def function(self, fn: FunctionType) -> bytes:
        home = str(fn.__globals__.get("__name__", ""))
        # A library's own decorators make functions whose home is the decorator's module.
        known = origin.named(fn, home) or origin.named(fn, fn.__module__)
        if known is not None:
            return digest(b"installed", known.encode())
        owner = self.family.owner(fn)
        beside = None if owner else self.beside.definition(fn)
        if beside is not None:
            return beside
        name = fn.__qualname__.rpartition("<locals>.")[2]
        label = f"{name}() ({'method' if owner else 'function'})"
        return self.parts.refer(id(fn), label, lambda: self.read_function(fn, home), alive=fn)

    def read_function(self, fn: FunctionType, home: str) -> bytes:
        owner = self.family.owner(fn)
        extras = {k: v for k, v in vars(fn).items() if k not in ("__wrapped__", ATTRIBUTE)}
        told = [
            self.encode([list(fn.__defaults__ or ()), fn.__kwdefaults__ or {}, extras]),
            *(
                self.closed_over(name, cell)
                for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True)
            ),
        ]
        if is_installed(home) or origin.is_ours(home):  # a decorator's wrapper
            return digest(b"wrapper", home.encode(), fn.__code__.co_name.encode(), *told)
        code = fn.__code__
        reads = bytecode.read(code, code.co_varnames[0] if owner and code.co_argcount else None)
        told.append(self.encode(reads.canonical))
        told += [self.chain(fn.__globals__, chain) for chain in sorted(reads.globals)]
        told += self.annotated(fn)
        package = str(fn.__globals__.get("__package__") or "")
        told += [self.beside.imported(package, found) for found in sorted(reads.imports)]
        told += self.family.reached_by(reads, owner)
        return digest(b"function", *told)

    def annotated(self, fn: FunctionType) -> list[bytes]:
        """What a web method's parameters are annotated with says how requests are read."""
        marks = marks_of(fn)
        if marks is None or marks.web is None:
            return []
        told = [self.chain(fn.__globals__, (name,)) for name in sorted(names(fn))]
        for name, annotation in inspect.get_annotations(fn).items():
            told += [self.encode(name), *self.annotation(annotation)]
        return told

    def annotation(self, annotation: Any) -> list[bytes]:
        inner = [*typing.get_args(annotation), *getattr(annotation, "__metadata__", ())]
        if not inner:
            return [self.encode(annotation)]
        shape = getattr(typing.get_origin(annotation), "__qualname__", "")
        return [self.encode(shape), *(told for one in inner for told in self.annotation(one))]

    def closed_over(self, name: str, cell: Any) -> bytes:
        try:
            content = cell.cell_contents
        except ValueError:  # not assigned yet
            return digest(b"empty", name.encode())
        return digest(b"closure", name.encode(), self.encode(content))

    def cls(self, cls: type) -> bytes:
        if cls in self.family.line:
            return digest(b"family", cls.__qualname__.encode())
        known = origin.named(cls, cls.__module__)
        if known is not None or is_installed(cls.__module__):
            return digest(b"installed", (known or cls.__qualname__).encode())
        beside = self.beside.definition(cls)
        if beside is not None:
            return beside
        label = f"{cls.__name__} (class)"
        return self.parts.refer(id(cls), label, lambda: self.read_class(cls), alive=cls)

    def read_class(self, cls: type) -> bytes:
        content = written_in(cls)
        if "__members__" in dir(type(cls)):  # an Enum: its members refer back to it by name
            values = {name: member.value for name, member in cls.__members__.items()}  # type: ignore[attr-defined]
            content = {name: value for name, value in content.items() if name not in values}
            content["<members>"] = list(values.items())
        return digest(
            b"class",
            *(self.encode(base) for base in cls.__bases__),
            self.encode(type(cls)),
            self.encode(annotations_of(cls)),
            self.encode(content),
        )

    # -- names that code looks up ----------------------------------------------------------

    def chain(self, space: dict[str, Any], chain: tuple[str, ...]) -> bytes:
        """Refer to what ``a.b.c`` means in a module's namespace."""
        name, *rest = chain
        if self.family.is_called(space, name):
            return self.family.member(rest[0]) if rest else digest(b"family", name.encode())
        if name not in space:
            known = hasattr(builtins, name)
            if known and name in BY_TEXT:
                self.parts.note_unreadable(f"what {self.parts.reading} reads with {name}()")
            return digest(b"builtin" if known else b"absent", name.encode())
        value = _plain(space[name])
        if isinstance(value, type) and value in self.family.line and rest:
            return self.family.member(rest[0])
        if isinstance(value, Absent):
            return digest(b"absent", value.__name__.encode(), ".".join(rest).encode())
        while isinstance(value, ModuleType) and rest and not origin.is_foreign(value):
            space = vars(value)
            told = self.beside.name(value.__name__, rest[0])
            if told is not None:
                return digest(b"global", ".".join(chain).encode(), told)
            name, *rest = rest
            if name not in space:
                return digest(b"absent", name.encode())
            inner = _plain(space[name])
            path = self.beside.file_of(value.__name__)
            if path is not None and not isinstance(inner, ModuleType):
                # By a star import, or made by code: the file says where it comes from, if anything.
                told = self.beside.source(value.__name__, path)
                return digest(b"global", ".".join(chain).encode(), told)
            value = inner
        return digest(b"global", ".".join(chain).encode(), self.global_value(space, name, value))

    def global_value(self, space: dict[str, Any], name: str, value: object) -> bytes:
        if isinstance(value, (FunctionType, type, ModuleType)):
            return self.encode(value)
        label = f"{name} (constant)"
        return self.parts.refer((id(space), name), label, lambda: self.encode(value), alive=space)

    def module(self, module: ModuleType) -> bytes:
        name = module.__name__
        if origin.is_ours(name):
            return digest(b"ours", name.encode())
        if is_installed(name):
            version = origin.version(name)
            return self.parts.refer(
                ("module", name),
                f"{name} (module)",
                lambda: digest(b"module", name.encode(), version.encode()),
            )
        path = origin.source_of(module)
        if path is not None:
            return self.beside.source(name, path)
        content = {k: v for k, v in vars(module).items() if not k.startswith("__")}
        return self.parts.refer(("module", name), f"{name} (module)", lambda: self.encode(content))


def _plain(value: Any) -> Any:
    """What a handle stands for: whether a class has got its handle already must not matter."""
    kind = type(value)
    if origin.is_ours(kind.__module__) and "__reduce__" in vars(kind):
        made = value.__reduce__()
        if isinstance(made, tuple) and made[0] is travel:
            return made[1][0]
    return value
