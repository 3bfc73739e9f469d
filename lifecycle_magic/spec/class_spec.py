"""`ClassSpec`: a decorated class as other modules see it, frozen, with its digests.

Two digests decide what an edit needs. `ClassSpec.state_key` covers what made the live instance what
it is: if it differs, a new container is needed. `ClassSpec.code_key` covers the rest: if only that
differs, the class can be swapped under the live instance. A class variable without a visible reader
counts for the first.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lifecycle_magic.decorators.classes import CALL
from lifecycle_magic.decorators.marks import (
    BatchMarks,
    BuildMarks,
    ConcurrentMarks,
    WebMarks,
)
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.fingerprint import fingerprint, warning_filters
from lifecycle_magic.fingerprint.fingerprint import Fingerprint
from lifecycle_magic.fingerprint.own_attributes import attributes_of, is_code
from lifecycle_magic.fingerprint.parts import NUMBERED
from lifecycle_magic.spec.build_digest import of_hook
from lifecycle_magic.spec.constructor import Arguments, Constructor
from lifecycle_magic.spec.instance_attributes import InstanceAttributes
from lifecycle_magic.spec.options import Options

__all__ = ["CALL", "RESERVED", "ClassSpec", "MethodSpec", "refuse_keep"]

# What the handle of a class answers to itself.
RESERVED = frozenset({"with_options", "with_concurrency", "with_batching"})

_CONSTRUCTORS = ("__new__", "__init__", "__post_init__")
# Python calls these by itself, also inside enter, so no reading of enter would find them.
_IMPLICIT = ("__init_subclass__", "__getattr__", "__getattribute__", "__setattr__", "__delattr__")


def refuse_keep(name: str, options: Options) -> None:
    """Raise `InvalidError` if the options of the function ``name`` have ``keep``."""
    if options.keep is not None:
        raise InvalidError(
            f"{name}: keep={options.keep:g} is for classes: a function has no state that another "
            "kernel could go on with. Fix: remove keep, or write a class with @enter and @method"
        )


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
    """A lifecycle class; created by `lifecycle_magic.spec.reading`."""

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

    def check_keep(self) -> None:
        """Raise `InvalidError` for a function that is to wait for another kernel."""
        if self.is_function:
            refuse_keep(self.name, self.options)

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
        shape: list[Any] = [list(self.exit), sorted(methods), self._code_print.digest]
        shape += self._settings.values()
        return fingerprint.of_value(shape).digest

    @property
    def state_parts(self) -> Mapping[str, str]:
        """Return what `state_key` covers: digests by human-readable names."""
        return self._state_print.parts

    @property
    def code_parts(self) -> Mapping[str, str]:
        """Return what `code_key` covers: digests by human-readable names."""
        return {**self._code_print.parts, **self._settings}

    @cached_property
    def united_parts(self) -> Mapping[str, str]:
        """Return `code_parts` and `state_parts` in which objects of one name and content count as
        one: a class of a cell, say, and the one that the same cell made before.
        """
        parts = {**self.code_parts, **self.state_parts}
        if not any(NUMBERED in name for name in parts):
            return parts
        state, code = self._read(unites=True)
        return {**code.parts, **self._settings, **state.parts}

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
        found = self.build_prints[hook_name]
        return fingerprint.of_value([hook_name, base, found.digest]).digest

    @cached_property
    def build_prints(self) -> Mapping[str, Fingerprint]:
        """Return the fingerprint of each build hook, without its base; computed once."""
        made = self._defined(_CONSTRUCTORS)
        return {hook: of_hook(self.cls, (hook, *made), self.options) for hook in self.build}

    def read_now(self) -> None:
        """Compute the digests now: what the class refers to may change later."""
        _ = self.state_key, self.code_key, self.build_prints, self.united_parts

    # -- computed once -------------------------------------------------------------------------

    def _defined(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if name in self._attributes)

    @cached_property
    def _attributes(self) -> dict[str, Any]:
        return attributes_of(self.cls)

    @cached_property
    def _prints(self) -> tuple[Fingerprint, Fingerprint]:
        return self._read()

    def _read(self, *, unites: bool = False) -> tuple[Fingerprint, Fingerprint]:
        everything = self._attributes
        data = {name for name, value in everything.items() if not is_code(value)}
        factories = {name for name, marks in self.web if marks.is_factory}
        roots = {*self.enter, *self.build, *self.constructor.types, *factories}
        roots |= set(self._defined(_CONSTRUCTORS + _IMPLICIT))
        read = functools.partial(
            fingerprint.of_members, self.cls, unites=unites, variables=self.options.variables
        )
        state = read(roots)
        rest = set(everything) - data - roots
        code = read(rest, structure=False)
        unsure = data - state.members - code.members
        if unsure:
            state = read(roots | unsure)
        return state, code

    @cached_property
    def _settings(self) -> dict[str, str]:
        """Return digests of the settings of the notebook that hold in containers."""
        found = warning_filters.content(self.cls)
        return (
            {}
            if found is None
            else {"filters of warnings (setting)": fingerprint.of_value(found).digest}
        )

    @property
    def _state_print(self) -> Fingerprint:
        return self._prints[0]

    @property
    def _code_print(self) -> Fingerprint:
        return self._prints[1]
