"""A digest of code and of everything that the code reads.

Two digests are equal if the code does the same with the same values: after a restart of the kernel,
with another hash seed, with other comments, line breaks and docstrings, and wherever the cell is.
They differ if the code, a default, a closed-over value or a global that it reads differs, however
many functions away.

The result is a set of named *parts*, each with a digest of its own content, in which other parts
appear only by name. So two fingerprints can be compared part by part to report what changed. How
deep reading goes depends on where an object comes from:

- written by the user (``__main__``, the class's own module): by content;
- modules next to the notebook: by their files, which is what containers import;
- installed (standard library, site-packages): by qualified name and the module's version;
- this package: by name.

Nothing is left out silently. What has no readable content (a socket, a lock, a generator), or is
looked up by a string that is made at run time (``globals()[name]``), is named in
`Fingerprint.unreadable`.
"""

from __future__ import annotations

import builtins
import contextvars
import functools
import inspect
import logging
import typing
from collections.abc import Iterable
from types import CodeType, FunctionType, MappingProxyType, ModuleType
from typing import Any

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.decorators.marks import ATTRIBUTE, marks_of
from lifecycle_magic.decorators.parameters import Parameter
from lifecycle_magic.fingerprint import bytecode, imported_objects, origin, reruns, string_names
from lifecycle_magic.fingerprint.class_hierarchy import ClassHierarchy
from lifecycle_magic.fingerprint.image_only import MissingModule
from lifecycle_magic.fingerprint.introspection import (
    CodeQueries,
    annotated_names,
    asked_by,
    subclasses_of,
)
from lifecycle_magic.fingerprint.local_modules import LocalModules
from lifecycle_magic.fingerprint.origin import is_installed
from lifecycle_magic.fingerprint.own_attributes import (
    annotations_of,
    has_typed_fields,
    namespace_of,
    written_in,
)
from lifecycle_magic.fingerprint.parts import Parts
from lifecycle_magic.fingerprint.result import Fingerprint
from lifecycle_magic.fingerprint.wrappers import wrapped_in
from lifecycle_magic.wire import context_variables, loggers
from lifecycle_magic.wire.annotations import names, names_in
from lifecycle_magic.wire.by_value import registered
from lifecycle_magic.wire.pydantic_models import declared
from lifecycle_magic.wire.value_digest import digest

__all__ = ["Fingerprint", "of_function", "of_members", "of_names", "of_value"]


def of_function(fn: Any) -> Fingerprint:
    """Return the fingerprint of a function.

    >>> of_function(lambda x: x + 1).digest == of_function(lambda x: x + 1).digest
    True
    """
    reader = _Reader(None, getattr(fn, "__module__", None))
    return reader.finish(reader.encode(fn))


def of_value(value: object, *, label: str = "value") -> Fingerprint:
    """Return the fingerprint of a value. ``label`` names it in `Fingerprint.unreadable`."""
    reader = _Reader(None)
    return reader.finish(reader.parts.encode_labelled(label, value))


def of_members(
    cls: type,
    names: Iterable[str],
    *,
    structure: bool = True,
    unites: bool = False,
    variables: frozenset[str] = frozenset(),
) -> Fingerprint:
    """Return the fingerprint of some attributes of ``cls`` and of what they reach of it.

    With ``structure`` it also covers the base classes and the annotations. With ``unites``, objects
    of one name and content count as one. ``variables`` are those that the class's containers have.
    """
    reader = _Reader(cls, None, unites)
    reader.variables = variables
    roots = [reader.hierarchy.refer_to_member(name) for name in sorted(names)]
    if structure:
        reader.hierarchy.refer_to_structure()
    return reader.finish(digest(b"members", *roots))


def of_names(space: dict[str, Any], names: Iterable[str], cls: type) -> str:
    """Return the digest (hex) of what names mean in the namespace of ``cls``."""
    reader = _Reader(cls, None)
    return reader.finish(digest(b"names", *(reader.chain(space, (one,)) for one in names))).digest


class _Reader:
    """One walk from its roots through code, classes and modules and the names that they refer
    to.
    """

    variables: frozenset[str] = frozenset()

    def __init__(self, within: type | None, own: str | None = None, unites: bool = False) -> None:
        self.parts = Parts(self.special, unites)
        self.hierarchy = ClassHierarchy(within, self.parts)
        self.local_modules = LocalModules(own if within is None else within.__module__, self.parts)
        self._asked = CodeQueries()
        self._definitions: list[type | FunctionType] = []  # that were read

    def finish(self, root: bytes) -> Fingerprint:
        while self.parts.read_waiting():
            if self.hierarchy.escapes:
                self.hierarchy.refer_to_mentioned()
            self.refer_to_asked()
        parts = dict(sorted(self.parts.digests.items()))
        digests = [digest(name.encode(), part) for name, part in parts.items()]
        return Fingerprint(
            digest=digest(b"fingerprint", root, *digests).hex(),
            parts=MappingProxyType({name: part.hex() for name, part in parts.items()}),
            unreadable=self.parts.unreadable,
            members=frozenset(self.hierarchy.reached),
            modules=MappingProxyType(dict(self.local_modules.modules)),
        )

    def refer_to_asked(self) -> None:
        """Refer to what code finds by introspection of the definitions that were read."""
        for one in self._definitions:
            if self._asked.subclasses and is_class(one):
                for subclass in subclasses_of(one):
                    self.cls(subclass)
            if self._asked.types:
                space = one.__globals__ if isinstance(one, FunctionType) else namespace_of(one)
                for name in annotated_names(one, space, asked=True):
                    self.chain(space, (name,))

    def encode(self, value: object) -> bytes:
        return self.parts.encode(value)

    # -- values with a meaning of their own: code, classes, modules ------------------------

    def special(self, value: object) -> bytes | None:
        """Return the digest of code, a class or a module; None for any other object.

        `ValueDigester` calls this first for each object.
        """
        kind = type(value)
        if isinstance(value, FunctionType):
            return self.function(value)
        if is_class(value):
            return self.cls(value)
        if isinstance(value, MissingModule):
            return digest(b"absent", value.meaning.encode())
        if isinstance(value, ModuleType):
            return self.module(value)
        if isinstance(value, CodeType):
            return self.encode(bytecode.read(value).canonical)
        if isinstance(value, Parameter):
            return digest(b"parameter", self.encode([value.init, value.default]))
        if origin.is_ours(kind.__module__):
            return self.ours(value)
        if (wrapped := wrapped_in(value)) is not None:
            name, parts = wrapped
            return digest(name.encode(), *map(self.encode, parts))
        if kind.__module__ == "weakref":
            return digest(b"weak")  # its content belongs to other objects
        if isinstance(value, logging.Logger):
            return digest(b"logger", self.encode(loggers.content_of(value, _read_alone)))
        if (place := imported_objects.collection_of_library(value)) is not None:
            return digest(b"library", ".".join(place).encode())
        if isinstance(value, contextvars.ContextVar):
            return digest(b"context variable", self.encode(context_variables.content_of(value)))
        digests = declared(value)
        return None if digests is None else self.encode(digests)

    def ours(self, value: object) -> bytes | None:
        plain = origin.without_handle(value)
        if plain is not value:
            return self.encode(plain)
        if "__reduce__" in vars(type(value)):  # it defines how it travels
            return None
        return digest(b"ours", type(value).__qualname__.encode())

    def function(self, fn: FunctionType) -> bytes:
        home = str(fn.__globals__.get("__name__", ""))
        # Decorators of a library create functions whose globals are the decorator's module.
        known = origin.qualified_name(fn, home) or origin.qualified_name(fn, fn.__module__)
        if known is not None:
            return digest(b"installed", known.encode())
        owner = self.hierarchy.owner(fn)
        local_modules = None if owner else self.local_modules.refer_to_definition(fn)
        if local_modules is not None:
            return local_modules
        name = fn.__qualname__.rpartition("<locals>.")[2]
        label = f"{name}() ({'method' if owner else 'function'})"
        return self.parts.refer(id(fn), label, lambda: self.read_function(fn, home), alive=fn)

    def read_function(self, fn: FunctionType, home: str) -> bytes:
        owner = self.hierarchy.owner(fn)
        extras = {k: v for k, v in vars(fn).items() if k not in ("__wrapped__", ATTRIBUTE)}
        digests = [
            self.encode([list(fn.__defaults__ or ()), fn.__kwdefaults__ or {}, extras]),
            *(
                self.closed_over(name, cell)
                for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True)
            ),
        ]
        if is_installed(home) or origin.is_ours(home):  # a decorator's wrapper
            return digest(b"wrapper", home.encode(), fn.__code__.co_name.encode(), *digests)
        code = fn.__code__
        reads = bytecode.read(code, code.co_varnames[0] if owner and code.co_argcount else None)
        digests.append(self.encode(reads.canonical))
        digests += [self.chain(fn.__globals__, chain) for chain in sorted(reads.globals)]
        digests += self.by_string(fn)
        self._asked |= asked_by(code)
        self._definitions.append(fn)
        digests += self.annotated(fn)
        package = str(fn.__globals__.get("__package__") or "")
        digests += [
            self.local_modules.refer_to_import(package, found) for found in sorted(reads.imports)
        ]
        digests += self.hierarchy.refer_to_reads(reads, owner)
        return digest(b"function", *digests)

    def by_string(self, fn: FunctionType) -> list[bytes]:
        """Return digests of the names that a function looks up by strings, where they travel."""
        space = fn.__globals__
        for lookup in string_names.open_lookups(fn.__code__, space):
            self.parts.note_unreadable(f"what {self.parts.reading} reads with {lookup}")
        found = string_names.names_by_string(fn.__code__, space)
        return [self.chain(space, (name,)) for name in found]

    def annotated(self, fn: FunctionType) -> list[bytes]:
        """Return digests of a web method's annotations, which say how requests are read."""
        marks = marks_of(fn)
        if marks is None or marks.web is None:
            return []
        digests = [self.chain(fn.__globals__, (name,)) for name in sorted(names(fn))]
        for name, annotation in inspect.get_annotations(fn).items():
            digests += [self.encode(name), *self.annotation(annotation)]
        return digests

    def annotation(self, annotation: Any, space: dict[str, Any] | None = None) -> list[bytes]:
        """Return digests of an annotation. Names in strings are looked up in ``space``."""
        text = getattr(annotation, "__forward_arg__", annotation)
        if space is not None and isinstance(text, str):
            known = sorted(set(names_in(text)) & space.keys())
            return [self.encode(text), *(self.chain(space, (name,)) for name in known)]
        inner = [*typing.get_args(annotation), *getattr(annotation, "__metadata__", ())]
        if not inner:
            return [self.encode(annotation)]
        origin = typing.get_origin(annotation)
        inside = None if origin is typing.Literal else space
        digests = (made for one in inner for made in self.annotation(one, inside))
        return [self.encode(getattr(origin, "__qualname__", "")), *digests]

    def closed_over(self, name: str, cell: Any) -> bytes:
        try:
            content = cell.cell_contents
        except ValueError:  # not assigned yet
            return digest(b"empty", name.encode())
        return digest(b"closure", name.encode(), self.encode(content))

    def cls(self, cls: type) -> bytes:
        if cls in self.hierarchy.line:
            return digest(b"family", cls.__qualname__.encode())
        known = origin.qualified_name(cls, cls.__module__)
        if known is not None or is_installed(cls.__module__):
            return digest(b"installed", (known or cls.__qualname__).encode())
        local_modules = self.local_modules.refer_to_definition(cls)
        if local_modules is not None:
            return local_modules
        label = f"{cls.__name__} (class)"
        return self.parts.refer(id(cls), label, lambda: self.read_class(cls), alive=cls)

    def read_class(self, cls: type) -> bytes:
        self._definitions.append(cls)
        # What code adds to a class later comes last, so the order says nothing.
        content = dict(sorted(written_in(cls).items()))
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
            self.encode(set(registered(cls))),
            *self.field_types(cls),
        )

    def field_types(self, cls: type) -> list[bytes]:
        """Return digests of the types of a data class's fields, which its library reads."""
        if not has_typed_fields(cls):
            return []
        try:
            found = inspect.get_annotations(cls)
        except NameError:  # Python 3.14 evaluates annotations late, and a name is missing
            return []
        space = namespace_of(cls)
        return [
            one
            for name, annotation in sorted(found.items())
            for one in (self.encode(name), *self.annotation(annotation, space))
        ]

    # -- names that code looks up ----------------------------------------------------------

    def chain(self, space: dict[str, Any], chain: tuple[str, ...]) -> bytes:
        """Refer to what ``a.b.c`` means in a module's namespace."""
        name, *rest = chain
        if self.hierarchy.is_class_name(space, name):
            return (
                self.hierarchy.refer_to_member(rest[0])
                if rest
                else digest(b"family", name.encode())
            )
        if name in (remade := reruns.find(space, self.variables)).names:
            label, read = f"{name} (statement)", functools.partial(self.remade, space, remade, name)
            return self.parts.refer((id(space), name), label, read, alive=space)
        if name not in space:
            return digest(b"builtin" if hasattr(builtins, name) else b"absent", name.encode())
        value = origin.without_handle(space[name])
        if is_class(value) and value in self.hierarchy.line and rest:
            return self.hierarchy.refer_to_member(rest[0])
        if isinstance(value, MissingModule):
            return digest(b"absent", value.meaning.encode(), ".".join(rest).encode())
        while isinstance(value, ModuleType) and rest and not origin.is_foreign(value):
            space = vars(value)
            found = self.local_modules.refer_to_name(value.__name__, rest[0])
            if found is not None:
                return digest(b"global", ".".join(chain).encode(), found)
            name, *rest = rest
            if name not in space:
                return digest(b"absent", name.encode())
            inner = origin.without_handle(space[name])
            path = self.local_modules.file_of(value.__name__)
            if path is not None and not isinstance(inner, ModuleType):
                # Bound by a star import or by code: only the file can say where it comes from.
                found = self.local_modules.refer_to_file(value.__name__, path)
                return digest(b"global", ".".join(chain).encode(), found)
            value = inner
        return digest(b"global", ".".join(chain).encode(), self.global_value(space, name, value))

    def global_value(self, space: dict[str, Any], name: str, value: object) -> bytes:
        if isinstance(value, (FunctionType, ModuleType)) or is_class(value):
            return self.encode(value)
        if (place := imported_objects.of_library(name, value)) is not None:
            return digest(b"library", ".".join(place).encode())
        label = f"{name} (constant)"
        return self.parts.refer((id(space), name), label, lambda: self.encode(value), alive=space)

    def remade(self, space: dict[str, Any], remade: reruns.Reruns, name: str) -> bytes:
        """Return the digest of the statements that make a name in the container."""
        indices = remade.statements_of([name])
        reads = (self.chain(space, (one,)) for one in remade.reads(indices))
        return digest(b"remade", remade.text(indices).encode(), *reads)

    def module(self, module: ModuleType) -> bytes:
        name = module.__name__
        if origin.is_ours(name):
            return digest(b"ours", name.encode())
        if is_installed(name):
            version = origin.version(name)
            return self.parts.refer(
                ("module", name),
                f"{name} (module)",
                lambda: digest(b"module", name.encode(), version.encode(), *self.set_up(name)),
            )
        path = origin.source_of(module)
        if path is not None:
            return self.local_modules.refer_to_file(name, path)
        content = {k: v for k, v in sorted(vars(module).items()) if k[:2] != "__"}
        return self.parts.refer(("module", name), f"{name} (module)", lambda: self.encode(content))

    def set_up(self, module: str) -> list[bytes]:
        """Return the digest of what the notebook set up in a module and what travels with every
        class.
        """
        return [self.encode(loggers.content(_read_alone))] if module == "logging" else []


def _read_alone(value: object) -> str:
    """Return the digest of a part of a logger: it may hold an instance of a class as it was."""
    return of_value(value).digest
