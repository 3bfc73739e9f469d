"""A digest of code and of everything that it reads.

Two digests are equal when the code does the same with the same values: after a restart of the
kernel, with another hash seed, with other comments, line breaks and docstrings, wherever
the cell is. They differ when the code, a default, a closed-over value or a global that it reads
differs, however many functions away.

The result is a set of named *parts*, each with a digest of its own content in which other parts
appear by name only. So cycles need no care, and two fingerprints can be compared part by part to
say what changed. How deep reading goes depends on where a thing comes from:

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
import sys
import typing
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import CodeType, FunctionType, MappingProxyType, MemberDescriptorType, ModuleType
from typing import Any

from lifecycle_magic import bytecode, origin, sources
from lifecycle_magic.absent import Absent
from lifecycle_magic.hooks import Parameter, travel
from lifecycle_magic.marks import ATTRIBUTE, marks_of
from lifecycle_magic.origin import is_installed
from lifecycle_magic.values import Unreadable, Values, digest
from lifecycle_magic.wire.annotations import names

__all__ = [
    "Fingerprint",
    "is_code",
    "is_installed",
    "members",
    "of_class",
    "of_function",
    "of_members",
    "of_value",
]

# What Python and the standard library keep in a class for their own use.
_BOOKKEEPING = frozenset(
    {
        "__abstractmethods__",
        "__annotate__",
        "__annotate_func__",
        "__annotations__",
        "__annotations_cache__",
        "__conditional_annotations__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__match_args__",
        "__module__",
        "__orig_bases__",
        "__parameters__",
        "__qualname__",
        "__static_attributes__",
        "__weakref__",
        "_abc_impl",
        "_member_map_",
        "_member_names_",
        "_value2member_map_",
        "_unhashable_values_",
        "_hashable_values_",
        ATTRIBUTE,
    }
)

# What code gets by these is named by texts, which can be made when it runs.
_BY_TEXT = frozenset({"globals", "eval", "exec"})


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


def of_class(cls: type) -> Fingerprint:
    """The fingerprint of a class with all that is in it, and in its bases."""
    reader = _Reader(None, cls.__module__)
    return reader.finish(reader.encode(cls))


def of_value(value: object, *, label: str = "value") -> Fingerprint:
    """The fingerprint of a value; ``label`` names it in `Fingerprint.unreadable`."""
    reader = _Reader(None)
    return reader.finish(reader.labelled(label, value))


def of_members(cls: type, names: Iterable[str], *, structure: bool = True) -> Fingerprint:
    """The fingerprint of some attributes of ``cls`` and of what they reach of it.

    With ``structure`` it covers the line of base classes and the annotations as well.
    """
    reader = _Reader(cls)
    roots = [reader.member(name) for name in sorted(names)]
    if structure:
        reader.part(("structure",), f"{cls.__name__} (bases and annotations)", reader.structure)
    return reader.finish(digest(b"members", *roots))


def members(cls: type) -> dict[str, Any]:
    """What the user wrote in a class and its bases, by name, as the class sees it."""
    found: dict[str, Any] = {}
    for owner in cls.__mro__[:-1]:
        if not is_installed(owner.__module__):
            for name, value in vars(owner).items():
                if name not in _BOOKKEEPING and not isinstance(value, MemberDescriptorType):
                    found.setdefault(name, value)
    return found


def is_code(value: object) -> bool:
    """Whether an attribute of a class is something that runs, and not data."""
    wrappers = (FunctionType, staticmethod, classmethod, property, functools.cached_property)
    return isinstance(value, wrappers) or type(value).__module__ == "functools"


class _Reader:
    """One walk from its roots; parts wait in a queue, so depth is no matter."""

    def __init__(self, within: type | None, own: str | None = None) -> None:
        self.within = within
        # The module whose code travels by value: it counts as it is here, not by its file.
        self.own = own if within is None else within.__module__
        self.modules: dict[str, str] = {}
        self.family = () if within is None else within.__mro__[:-1]
        self.parts: dict[str, bytes] = {}
        self.names: dict[object, str] = {}
        self.queue: deque[tuple[str, Callable[[], bytes]]] = deque()
        self.unreadable: dict[str, None] = {}
        self.reached: set[str] = set()
        self.loose: set[str] = set()
        self.escapes = False
        self.owners: dict[int, type | None] = {}  # None: a static method, which has no self
        self.label = "value"
        self.alive: list[object] = []  # ids are keys: nothing may be freed and its id used again
        self.values = Values(self.special)

    # -- parts -----------------------------------------------------------------------------

    def part(self, key: object, label: str, produce: Callable[[], bytes]) -> bytes:
        """Refer to a part, which is read later if this is the first time."""
        name = self.names.get(key)
        if name is None:
            taken, count = set(self.names.values()), 1
            name = label
            while name in taken:
                count += 1
                name = f"{label} #{count}"
            self.names[key] = name
            self.queue.append((name, produce))
        return digest(b"part", name.encode())

    def finish(self, root: bytes) -> Fingerprint:
        while True:
            while self.queue:
                name, produce = self.queue.popleft()
                self.parts[name] = digest(self.guarded(name, produce))
            if not self.escapes or not self.follow_loose():
                break
        told = [digest(name.encode(), part) for name, part in sorted(self.parts.items())]
        return Fingerprint(
            digest=digest(b"fingerprint", root, *told).hex(),
            parts=MappingProxyType({name: part.hex() for name, part in sorted(self.parts.items())}),
            unreadable=tuple(self.unreadable),
            members=frozenset(self.reached),
            modules=MappingProxyType(dict(self.modules)),
        )

    def guarded(self, label: str, produce: Callable[[], bytes]) -> bytes:
        outer, self.label = self.label, label
        try:
            return produce()
        finally:
            self.label = outer

    def labelled(self, label: str, value: object) -> bytes:
        return self.guarded(label, lambda: self.encode(value))

    def encode(self, value: object) -> bytes:
        try:
            return self.values.encode(value)
        except Unreadable as error:
            self.unreadable[self.label.rpartition(" (")[0] or self.label] = None
            return digest(b"unreadable", str(error).encode())

    def follow_loose(self) -> bool:
        """``self`` went where it can't be followed: whatever is named anywhere may be read."""
        before = len(self.names)
        for owner in self.family:
            for name in vars(owner):
                implicit = name.startswith("__") and name.endswith("__")
                if implicit or name in self.loose:
                    self.member(name)
        return len(self.names) > before

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
        beside = None if self.owner(fn) else self.beside(fn)
        if beside is not None:
            return beside
        self.alive.append(fn)
        label = fn.__qualname__.rpartition("<locals>.")[2]
        kind = "method" if self.owner(fn) else "function"
        return self.part(id(fn), f"{label}() ({kind})", lambda: self.read_function(fn, home))

    def read_function(self, fn: FunctionType, home: str) -> bytes:
        owner = self.owner(fn)
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
        told += [self.imported(fn.__globals__, found) for found in sorted(reads.imports)]
        if owner is not None:
            told += [self.member(name) for name in sorted(reads.attributes)]
            told += [self.member(name, after=owner) for name in sorted(reads.supers)]
            self.escapes |= reads.escapes
        self.loose |= reads.loose
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

    def owner(self, fn: FunctionType) -> type | None:
        """The class of the family that a function is a method of, or was one until it was wrapped.

        A wrapped method is found only inside its wrapper; its name tells where it was written.
        """
        if id(fn) in self.owners:
            return self.owners[id(fn)]
        prefix = fn.__qualname__.rpartition(".")[0]
        for owner in self.family:
            if owner.__qualname__ == prefix and owner.__module__ == fn.__module__:
                return owner
        return None

    def closed_over(self, name: str, cell: Any) -> bytes:
        try:
            content = cell.cell_contents
        except ValueError:  # not assigned yet
            return digest(b"empty", name.encode())
        return digest(b"closure", name.encode(), self.encode(content))

    def cls(self, cls: type) -> bytes:
        if cls in self.family:
            return digest(b"family", cls.__qualname__.encode())
        known = origin.named(cls, cls.__module__)
        if known is not None or is_installed(cls.__module__):
            return digest(b"installed", (known or cls.__qualname__).encode())
        beside = self.beside(cls)
        if beside is not None:
            return beside
        self.alive.append(cls)
        return self.part(id(cls), f"{cls.__name__} (class)", lambda: self.read_class(cls))

    def read_class(self, cls: type) -> bytes:
        content = {
            name: value
            for name, value in vars(cls).items()
            if name not in _BOOKKEEPING and not isinstance(value, MemberDescriptorType)
        }
        if "__members__" in dir(type(cls)):  # an Enum: its members refer back to it by name
            values = {name: member.value for name, member in cls.__members__.items()}  # type: ignore[attr-defined]
            content = {name: value for name, value in content.items() if name not in values}
            content["<members>"] = list(values.items())
        return digest(
            b"class",
            *(self.encode(base) for base in cls.__bases__),
            self.encode(type(cls)),
            self.encode(_annotations(cls)),
            self.encode(content),
        )

    def structure(self) -> bytes:
        assert self.within is not None
        line = [
            digest(b"family", owner.__qualname__.encode())
            if not is_installed(owner.__module__)
            else digest(b"base", (origin.named(owner, owner.__module__) or "").encode())
            for owner in self.family
        ]
        notes = [_annotations(o) for o in self.family if not is_installed(o.__module__)]
        return digest(b"structure", *line, self.encode(type(self.within)), self.encode(notes))

    # -- names that code looks up ----------------------------------------------------------

    def member(self, name: str, after: type | None = None) -> bytes:
        """Refer to the attribute ``name`` of the class, or of what comes ``after`` a base."""
        line = self.family if after is None else self.family[self.family.index(after) + 1 :]
        for owner in line:
            if name in vars(owner) and name not in _BOOKKEEPING:
                if is_installed(owner.__module__):
                    break
                self.reached.add(name)
                return self.own_member(owner, name, vars(owner)[name])
        return digest(b"no member", name.encode())

    def own_member(self, owner: type, name: str, value: Any) -> bytes:
        inner = getattr(value, "__func__", value)
        if isinstance(inner, FunctionType):
            self.alive.append(inner)
            self.owners[id(inner)] = None if isinstance(value, staticmethod) else owner
        if inner is value and isinstance(value, FunctionType):
            return digest(b"member", name.encode(), self.encode(value))
        kind = "method" if is_code(value) else "class variable"
        label = f"{owner.__name__}.{name} ({kind})"
        return self.part((owner, name), label, lambda: self.encode(value))

    def chain(self, space: dict[str, Any], chain: tuple[str, ...]) -> bytes:
        """Refer to what ``a.b.c`` means in a module's namespace."""
        name, *rest = chain
        if self.within is not None and self.is_within(space, name):
            return self.member(rest[0]) if rest else digest(b"family", name.encode())
        if name not in space:
            known = hasattr(builtins, name)
            if known and name in _BY_TEXT:
                self.unreadable[f"what {self.label.rpartition(' (')[0]} reads with {name}()"] = None
            return digest(b"builtin" if known else b"absent", name.encode())
        value = _plain(space[name])
        if isinstance(value, type) and value in self.family and rest:
            return self.member(rest[0])
        if isinstance(value, Absent):
            return digest(b"absent", value.__name__.encode(), ".".join(rest).encode())
        while isinstance(value, ModuleType) and rest and not origin.is_foreign(value):
            space = vars(value)
            path = self.file_of(value.__name__)
            if path is not None and rest[0] in (sources.pieces_of(path) or ()):
                told = self.piece(value.__name__, path, rest[0])
                return digest(b"global", ".".join(chain).encode(), told)
            name, *rest = rest
            if name not in space:
                return digest(b"absent", name.encode())
            inner = _plain(space[name])
            if path is not None and not isinstance(inner, ModuleType):
                # By a star import, or made by code: the file says where it comes from, if anything.
                told = self.source(value.__name__, path)
                return digest(b"global", ".".join(chain).encode(), told)
            value = inner
        return digest(b"global", ".".join(chain).encode(), self.global_value(space, name, value))

    def is_within(self, space: dict[str, Any], name: str) -> bool:
        """Whether a global is the class itself, or the handle that took its place."""
        assert self.within is not None
        return name == self.within.__name__ and space.get("__name__") == self.within.__module__

    def global_value(self, space: dict[str, Any], name: str, value: object) -> bytes:
        if isinstance(value, (FunctionType, type, ModuleType)):
            return self.encode(value)
        self.alive.append(value)
        return self.part((id(space), name), f"{name} (constant)", lambda: self.encode(value))

    def module(self, module: ModuleType) -> bytes:
        name = module.__name__
        if origin.is_ours(name):
            return digest(b"ours", name.encode())
        if is_installed(name):
            version = origin.version(name)
            return self.part(
                ("module", name),
                f"{name} (module)",
                lambda: digest(b"module", name.encode(), version.encode()),
            )
        path = origin.source_of(module)
        if path is not None:
            return self.source(name, path)
        content = {k: v for k, v in vars(module).items() if not k.startswith("__")}
        return self.part(("module", name), f"{name} (module)", lambda: self.encode(content))

    def imported(self, space: dict[str, Any], found: bytecode.Import) -> bytes:
        """An import inside a function: what lies beside the notebook counts by its file.

        Whether it was imported already must not matter, so the live module is not asked.
        """
        told = [found.module.encode(), str(found.level).encode()]
        files = origin.local_sources(found, str(space.get("__package__") or ""))
        self.modules.update(files)
        for name, path in files:
            pieces = sources.pieces_of(path) or {}
            if (
                found.names
                and (name, path) == self.target(files, found)
                and all(one in pieces for one in found.names)
            ):
                told += [self.piece(name, path, one) for one in sorted(found.names)]
            else:
                told.append(self.source(name, path))
        return digest(b"import", *told)

    def target(
        self, files: list[tuple[str, str]], found: bytecode.Import
    ) -> tuple[str, str] | None:
        """The module of ``from module import ...``, if it lies beside the notebook."""
        wanted = [
            one
            for one in files
            if not found.module
            or one[0] == found.module
            or (found.level and one[0].endswith(f".{found.module}"))
        ]
        return wanted[0] if wanted else None

    def file_of(self, module: str) -> str | None:
        """The file of a module beside the notebook; None for any other, and for our own code."""
        found = sys.modules.get(module)
        if found is None or module in (self.own, "__main__", "__mp_main__"):
            return None
        return None if origin.is_foreign(found) else origin.source_of(found)

    def beside(self, thing: Any) -> bytes | None:
        """What a module beside the notebook defines under this name, by its file.

        None for what travels by value: the module has it no more, or never had.
        """
        path = self.file_of(thing.__module__)
        name = thing.__qualname__.partition(".")[0]
        if path is None or not origin.resolves(thing, thing.__module__):
            return None
        if name not in (sources.pieces_of(path) or ()):
            return None
        return self.piece(thing.__module__, path, name)

    def piece(self, module: str, path: str, name: str) -> bytes:
        """Refer to a top-level name of a source file."""
        pieces = sources.pieces_of(path) or {}
        piece = pieces[name]
        self.modules[module] = path
        package = module if path.endswith("__init__.py") else module.rpartition(".")[0]

        def read() -> bytes:
            told = [piece.told.encode()]
            told += [
                self.piece(module, path, one)
                for one in piece.names
                if one != name and one in pieces
            ]
            space = {"__package__": package}
            told += [self.imported(space, found) for found in sorted(piece.imports)]
            if not _BY_TEXT.isdisjoint(set(piece.names) - pieces.keys()):
                told.append(self.source(module, path))
            return digest(b"piece", *told)

        call = "()" if piece.kind == "function" else ""
        return self.part(("piece", module, name), f"{module}.{name}{call} ({piece.kind})", read)

    def source(self, name: str, path: str) -> bytes:
        self.modules[name] = path

        def read() -> bytes:
            code = origin.compiled(path)
            if code is None:
                self.unreadable[name] = None
                return digest(b"unreadable", path.encode())
            reads = bytecode.read(code)
            package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
            space = {"__package__": package}
            inner = [self.imported(space, found) for found in sorted(reads.imports)]
            return digest(b"source", self.encode(reads.canonical), *inner)

        return self.part(("source", name), f"{name} (module)", read)


def _annotations(cls: type) -> dict[str, str]:
    try:
        found = inspect.get_annotations(cls)
    except NameError:  # Python 3.14 looks them up late, and one is not there
        return {}
    return {k: v if isinstance(v, str) else inspect.formatannotation(v) for k, v in found.items()}


def _plain(value: Any) -> Any:
    """What a handle stands for: whether a class has got its handle already must not matter."""
    kind = type(value)
    if origin.is_ours(kind.__module__) and "__reduce__" in vars(kind):
        made = value.__reduce__()
        if isinstance(made, tuple) and made[0] is travel:
            return made[1][0]
    return value
