"""A decorated class, read once into a frozen `ClassSpec`.

`read_class` finds hooks and methods, puts them in order, and refuses what can't work;
`read_function` does the same for a plain function. Both are pure: they run and change no code of
the user's.

The order of hooks: a name marked in the class or one of its bases is a *slot*. Slots run base class
first, then as written. An override takes the slot of what it overrides, decorated or not, and
``load = None`` empties it.

Two digests decide what an edit needs. `ClassSpec.state_key` covers what made the live instance what
it is: if it differs, a new container is needed. `ClassSpec.code_key` covers the rest: if only that
differs, the class can be swapped under the live instance. A class variable without a visible reader
counts for the first.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import FunctionType, MappingProxyType
from typing import Any

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.decorators.marks import (
    ATTRIBUTE,
    BatchMarks,
    BuildMarks,
    ConcurrentMarks,
    Marks,
    MethodMarks,
    WebMarks,
    check_marked,
    function_of,
    marks_of,
)
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.fingerprint import fingerprint
from lifecycle_magic.fingerprint.fingerprint import Fingerprint
from lifecycle_magic.fingerprint.own_attributes import attributes_of, is_code
from lifecycle_magic.spec.build_digest import of_hook
from lifecycle_magic.spec.class_checks import check_class, check_hidden_marks, check_parameters
from lifecycle_magic.spec.constructor import Arguments, Constructor, signature_without_self
from lifecycle_magic.spec.instance_attributes import InstanceAttributes
from lifecycle_magic.spec.options import Options

__all__ = ["ClassSpec", "MethodSpec", "read_class", "read_function"]

CALL = "call"  # the one method of a class made from a function
# What the handle of a class answers to itself.
RESERVED = frozenset({"with_options", "with_concurrency", "with_batching"})

_CONSTRUCTORS = ("__new__", "__init__", "__post_init__")
# Python calls these by itself, also inside enter, so no reading of enter would find them.
_IMPLICIT = ("__init_subclass__", "__getattr__", "__getattribute__", "__setattr__", "__delattr__")


@dataclass(frozen=True)
class MethodSpec:
    """One method that callers reach. ``signature`` is without ``self``."""

    name: str
    is_async: bool
    is_generator: bool
    batched: BatchMarks | None
    concurrent: ConcurrentMarks | None
    signature: inspect.Signature
    web: WebMarks | None = None
    doc: str | None = field(default=None, compare=False)

    @property
    def is_plain(self) -> bool:
        """Return whether a call is one input and one value, with nothing special about it."""
        return not (self.is_async or self.is_generator or self.batched or self.web)


@dataclass(frozen=True, eq=False)
class ClassSpec:
    """A lifecycle class as other modules see it; created by `read_class`."""

    name: str
    module: str
    cls: type
    options: Options
    enter: tuple[str, ...]
    exit: tuple[str, ...]
    build: tuple[str, ...]
    methods: Mapping[str, MethodSpec]
    build_marks: Mapping[str, BuildMarks]
    is_function: bool = False

    @cached_property
    def constructor(self) -> Constructor:
        """Return the constructor of instances."""
        return Constructor.of(self.cls)

    @cached_property
    def instance_attributes(self) -> InstanceAttributes:
        """Return what is known of an instance without creating one."""
        return InstanceAttributes.of(self.cls)

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
        """Return the arguments of a caller, checked and with a key: see `Constructor.arguments`."""
        return self.constructor.arguments(args, kwargs)

    def check_build(self) -> None:
        """Raise `InvalidError` for a build hook of a class that needs arguments."""
        needed = self.constructor.needed()
        if self.build and needed:
            raise InvalidError(
                f"{self.name}.{self.build[0]}: @build runs once for all instances, on one created "
                f"without arguments, but {self.name} needs {', '.join(needed)}. Fix: give defaults"
            )

    def check_single_use(self) -> None:
        """Raise `InvalidError` for containers of one input that take several at once."""
        if self.options.single_use_containers and self.max_inputs > 1:
            raise InvalidError(
                f"{self.name}: single_use_containers=True and @concurrent("
                f"max_inputs={self.max_inputs}) exclude each other. Fix: remove one of them"
            )

    @property
    def web(self) -> tuple[tuple[str, WebMarks], ...]:
        """Return the methods that answer HTTP, with their marks."""
        return tuple((name, method.web) for name, method in self.methods.items() if method.web)

    def volume_names(self) -> frozenset[str]:
        """Return the names of the volumes of its containers and of its image's functions."""
        image = self.options.image
        found = [*self.options.volumes.values(), *(image.volumes() if image else ())]
        return frozenset(volume.name for volume in found if volume.name)

    @property
    def max_inputs(self) -> int:
        """Return how many inputs one container takes at once."""
        inputs = (m.concurrent.max_inputs for m in self.methods.values() if m.concurrent)
        return max(inputs, default=1)

    @cached_property
    def state_key(self) -> str:
        """Return a digest (hex) of all that needs a new container when it changes; computed once.

        The number of concurrent inputs is part of it: a container opens its connections when it
        starts.
        """
        made = [(name, w.kind, w.port, w.startup_timeout) for name, w in self.web if w.is_factory]
        shape = [self.name, self.enter, self.build, self.max_inputs, made]
        return fingerprint.of_value([*shape, self._state_print.digest, self.options.key()]).digest

    @cached_property
    def code_key(self) -> str:
        """Return a digest (hex) of the rest of the class: methods, exit hooks, and what they
        read.
        """
        methods = [
            (m.name, m.is_async, m.is_generator, repr(m.batched), repr(m.concurrent), repr(m.web))
            for m in self.methods.values()
        ]
        shape = [list(self.exit), sorted(methods), self._code_print.digest]
        return fingerprint.of_value(shape).digest

    @property
    def state_parts(self) -> Mapping[str, str]:
        """Return what `state_key` covers: digests by human-readable names."""
        return self._state_print.parts

    @property
    def code_parts(self) -> Mapping[str, str]:
        """Return what `code_key` covers: digests by human-readable names."""
        return self._code_print.parts

    @cached_property
    def unreadable(self) -> tuple[str, ...]:
        """Return the names of what the class reads and no digest covers: changes there go
        unnoticed.
        """
        found = (*self._state_print.unreadable, *self._code_print.unreadable)
        return tuple(dict.fromkeys(found))

    @property
    def modules(self) -> Mapping[str, str]:
        """Return the modules next to the notebook that the class refers to: names and files."""
        return {**self._state_print.modules, **self._code_print.modules}

    def build_key(self, hook_name: str, base: str) -> str:
        """Return the key of the layer that ``hook_name`` makes on top of the image with id
        ``base``.

        It covers the hook, the constructor, the functions, classes and globals that these refer to,
        the variables in ``env`` and the names of secrets; not the other methods, nor the class's
        other options.
        """
        told = self.build_prints[hook_name]
        return fingerprint.of_value([hook_name, base, told.digest]).digest

    @cached_property
    def build_prints(self) -> Mapping[str, Fingerprint]:
        """Return the fingerprint of each build hook, without its base; computed once."""
        made = self._defined(_CONSTRUCTORS)
        return {hook: of_hook(self.cls, (hook, *made), self.options) for hook in self.build}

    def read_now(self) -> None:
        """Compute the digests now: what the class refers to may change later."""
        _ = self.state_key, self.code_key, self.build_prints

    # -- computed once -------------------------------------------------------------------------

    def _defined(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if name in self._attributes)

    @cached_property
    def _attributes(self) -> dict[str, Any]:
        return attributes_of(self.cls)

    @cached_property
    def _prints(self) -> tuple[Fingerprint, Fingerprint]:
        everything = self._attributes
        data = {name for name, value in everything.items() if not is_code(value)}
        factories = {name for name, marks in self.web if marks.is_factory}
        roots = {*self.enter, *self.build, *self.constructor.types, *factories}
        roots |= set(self._defined(_CONSTRUCTORS + _IMPLICIT))
        state = fingerprint.of_members(self.cls, roots)
        rest = set(everything) - data - roots
        code = fingerprint.of_members(self.cls, rest, structure=False)
        unsure = data - state.members - code.members
        if unsure:
            state = fingerprint.of_members(self.cls, roots | unsure)
        return state, code

    @property
    def _state_print(self) -> Fingerprint:
        return self._prints[0]

    @property
    def _code_print(self) -> Fingerprint:
        return self._prints[1]


def read_class(cls: type, options: Options | None = None, *, name: str | None = None) -> ClassSpec:
    """Read a decorated class; raises `InvalidError` for every mistake in its declaration.

    >>> from lifecycle_magic.decorators import hooks
    >>> class Model:
    ...     @hooks.enter()
    ...     def load(self): ...
    ...     @hooks.method()
    ...     def predict(self, x): ...
    >>> spec = read_class(Model)
    >>> spec.enter, list(spec.methods)
    (('load',), ['predict'])
    """
    check_class(cls)
    check_hidden_marks(cls)
    called = name or cls.__name__
    slots = _slots(cls)
    check_parameters(cls)
    whole = marks_of(cls)
    shared = whole.concurrent if whole else None
    methods: dict[str, MethodSpec] = {}
    for one, (function, marks) in slots.items():
        if marks.is_method:
            methods[one] = _read_method(cls, one, function, marks, shared)
        elif not marks.is_hook:
            raise InvalidError(
                f"{cls.__name__}.{one}: {' and '.join(marks.names())} alone makes no method. "
                "Fix: add @method below it"
            )
    if not slots and not _has_plain_method(cls):
        raise InvalidError(
            f"{cls.__name__} has no hooks and no methods, so there is nothing to run. "
            "Fix: put @method above a def"
        )
    spec = ClassSpec(
        name=called,
        module=cls.__module__,
        cls=cls,
        options=options or Options(),
        enter=_enter_order({name: marks for name, (_, marks) in slots.items() if marks.enter}),
        exit=tuple(name for name, (_, marks) in slots.items() if marks.exit),
        build=tuple(name for name, (_, marks) in slots.items() if marks.build),
        methods=MappingProxyType(methods),
        build_marks=MappingProxyType(
            {name: marks.build for name, (_, marks) in slots.items() if marks.build}
        ),
    )
    spec.check_build()
    spec.check_single_use()
    return spec


def _has_plain_method(cls: type) -> bool:
    """Return whether the class has a method without a mark, which runs with ``.local()``."""
    return any(
        isinstance(getattr(value, "__func__", value), FunctionType) and not name.startswith("__")
        for owner in cls.__mro__[:-1]
        for name, value in vars(owner).items()
    )


def _enter_order(marked: dict[str, Marks]) -> tuple[str, ...]:
    """Return the names of ``enter`` hooks in the order in which they run."""
    return tuple(sorted(marked, key=lambda name: not marked[name].snap))


def read_function(
    fn: Any,
    options: Options | None = None,
    *,
    name: str | None = None,
    is_generator: bool | None = None,
) -> ClassSpec:
    """Return a plain function as a class with the one static method ``call``.

    ``is_generator`` is needed only for a function that returns a generator without a ``yield``.
    Raises `InvalidError` for anything but a function written with ``def`` outside of a class.
    """
    if is_class(fn):
        raise InvalidError(f"{fn.__name__} is a class. Fix: use @app.cls() for it")
    if not isinstance(fn, FunctionType):
        raise InvalidError(f"@app.function goes right above a def, not on a {type(fn).__name__}")
    if fn.__name__ == "<lambda>":
        raise InvalidError("@app.function got a lambda, which has no name. Fix: write a def")
    if "." in fn.__qualname__.rpartition("<locals>.")[2]:
        raise InvalidError(
            f"{fn.__qualname__} is a method. Fix: put @app.cls() on its class and @method on it"
        )
    marks = marks_of(fn) or Marks()
    if is_generator is not None:
        marks = marks._replace(method=MethodMarks(is_generator))
        setattr(fn, ATTRIBUTE, marks)  # the handle in another container reads it there
    elif marks.is_hook or marks.method:
        used = " and ".join(marks.names())
        raise InvalidError(
            f"{fn.__name__}: {used} belongs in a class with @app.cls(). Fix: remove it here"
        )
    space = {CALL: staticmethod(fn), "__module__": fn.__module__, "__qualname__": fn.__qualname__}
    return ClassSpec(
        name=name or fn.__name__,
        module=fn.__module__,
        cls=type(fn.__name__, (), space),
        options=options or Options(),
        enter=(),
        exit=(),
        build=(),
        methods=MappingProxyType(
            {CALL: _method_spec(CALL, fn, marks, None, inspect.signature(fn))}
        ),
        build_marks=MappingProxyType({}),
        is_function=True,
    )


# -- hooks and methods ------------------------------------------------------------------------


def _slots(cls: type) -> dict[str, tuple[FunctionType, Marks]]:
    """Return the marked names in the order they run, each with its last definition and its
    marks.
    """
    marked: dict[str, Marks] = {}
    for owner in reversed(cls.__mro__):
        for name, value in vars(owner).items():
            marks = None if is_class(value) else marks_of(value)
            if marks is not None and name != ATTRIBUTE:
                marked[name] = marks
    found: dict[str, tuple[FunctionType, Marks]] = {}
    for name, marks in marked.items():
        owner = next(c for c in cls.__mro__ if name in vars(c))
        value = vars(owner)[name]
        if value is None:
            continue
        where = f"{cls.__name__}.{name}"
        function = (
            function_of(value) if marks_of(value) or isinstance(value, FunctionType) else None
        )
        if function is None:
            raise InvalidError(
                f"{where} replaces a base class's {' and '.join(marks.names())}, but it is a "
                f"{type(value).__name__}. Fix: write a def, or {name} = None to remove it"
            )
        check_marked(function, marks, where)
        found[name] = (function, marks)
    return found


def _read_method(
    cls: type,
    name: str,
    function: FunctionType,
    marks: Marks,
    shared: ConcurrentMarks | None,
) -> MethodSpec:
    where = f"{cls.__name__}.{name}"
    if name in RESERVED:
        raise InvalidError(
            f"{where}: {cls.__name__}.{name} means something else. Fix: rename the method"
        )
    signature = inspect.signature(function)
    taken = next(iter(signature.parameters.values()), None)
    positional = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    if taken is None or taken.kind not in positional:
        raise InvalidError(f"{where}: @method needs self. Fix: write def {name}(self, ...)")
    return _method_spec(name, function, marks, shared, signature_without_self(function))


def _method_spec(
    name: str,
    function: FunctionType,
    marks: Marks,
    shared: ConcurrentMarks | None,
    signature: inspect.Signature,
) -> MethodSpec:
    stated = marks.method.is_generator if marks.method else None
    yields = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    return MethodSpec(
        name=name,
        is_async=inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function),
        is_generator=yields if stated is None else stated,
        batched=marks.batched,
        concurrent=marks.concurrent or shared,
        signature=signature,
        web=marks.web,
        doc=inspect.getdoc(function),
    )
