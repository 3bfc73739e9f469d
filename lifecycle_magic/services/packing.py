"""A class pickled together with every name that its code refers to, for `wire.name_table` to read.

Names are resolved as Python resolves them: through any number of functions, each in the namespace
in which it was defined.
"""

from __future__ import annotations

import functools
import io
import sys
import types
from collections import deque
from typing import Any

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.decorators.travel import TRAVELS, travel_own
from lifecycle_magic.fingerprint import imported_objects, reruns, warning_filters
from lifecycle_magic.fingerprint.introspection import (
    CodeQueries,
    annotated_names,
    asked_by,
    subclasses_of,
)
from lifecycle_magic.fingerprint.origin import is_ours
from lifecycle_magic.fingerprint.string_names import names_by_string
from lifecycle_magic.handles.function import HANDLES
from lifecycle_magic.services import class_ids, shared_objects, shell_names
from lifecycle_magic.services.class_namespace import function_in, namespace_of, own_names
from lifecycle_magic.services.packed import Key, Packed, ordered, parts_left_behind, sources_of
from lifecycle_magic.services.rerun_plan import (
    UNNAMED,
    RerunPlan,
    pack_for_other_releases,
    pack_for_script,
)
from lifecycle_magic.services.web_applications import (
    ApplicationReleases,
    is_application,
    reduce_with_new_locks,
)
from lifecycle_magic.wire import definition_load, loggers, unpicklable
from lifecycle_magic.wire.by_value import ByValue
from lifecycle_magic.wire.module_objects import ModuleObject, reduce_environment
from lifecycle_magic.wire.reading_values import despite_filters
from lifecycle_magic.wire.reducers import Reduced
from lifecycle_magic.wire.warning_filters import ComparedFilters, Raw

__all__ = ["Packed", "pack"]

MAIN = "__main__"
_VERSIONS = "__lifecycle_versions__"
_LOGGERS = "__lifecycle_loggers__"
_FILTERS = "__lifecycle_warnings__"


def pack(cls: type, *, python: str | None = "", variables: frozenset[str] = frozenset()) -> Packed:
    """Pack a class for a container with the minor version ``python``: by default this one, and None
    if it is not known. Raises `UnpicklableError`, with the path, for a value that can't be pickled.
    """
    class_ids.install()
    filters = warning_filters.filters(cls)
    space, pack_with = namespace_of(cls), functools.partial(_pack, cls, python, filters)
    return despite_filters(lambda: pack_for_script(space, variables, pack_with))


def _pack(
    cls: type,
    python: str | None,
    filters: list[Raw] | None,
    remade: reruns.Reruns,
    is_other: bool = False,
) -> Packed:
    sources = {"sources": python != "", "strict": bool(python)}
    plan = RerunPlan(cls, remade)
    finder = _Packer(io.BytesIO(), cls, plan, **sources)
    finder.write_class()
    finder.add_unnamed()
    configured = loggers.Configured(finder.can_travel)
    finder.dump((MAIN, _LOGGERS, configured))
    finder.write_pending()
    finder.finish()
    file = io.BytesIO()
    packer = _Packer(file, cls, plan, **sources)
    packer.follow(finder)
    other = None
    if finder.releases and not is_other:  # first: compared before any of these objects is created
        again = functools.partial(_pack, cls, python, filters, is_other=True)
        other = pack_for_other_releases(remade, finder.releases.names, again)
        finder.releases.otherwise = other.data if other is not None else None
        packer.dump((MAIN, _VERSIONS, finder.releases))
    packer.write_shared(finder.shared)
    packer.dump((MAIN, _LOGGERS, configured))
    sizes: dict[str, int] = {}
    for key in ordered(finder.values):
        began = file.tell()
        packer.write_name(key)
        sizes[key[1]] = max(file.tell() - began, sizes.get(key[1], 0))
    if filters is not None:  # last: libraries set theirs first
        packer.dump((MAIN, _FILTERS, ComparedFilters(filters)))
    packer.dump(None)
    packer.write_class(sources_of(finder.files))
    functions, left = (
        tuple(finder.functions),
        parts_left_behind([*finder.values.values(), *vars(cls).values()], finder),
    )
    apart = [*configured.apart(), *([other.data, *other.apart] if other is not None else [])]
    return Packed(
        file.getvalue(), sizes, functions, tuple(apart), tuple(left), finder.releases.names
    )


class _Packer(ByValue):
    """A pickler that records the names that functions refer to, and leaves their values out."""

    def __init__(self, file: Any, cls: type, plan: RerunPlan, **options: bool) -> None:
        super().__init__(file, **options)
        self._options = options
        self.reruns = plan
        self.pending: deque[Key] = deque()
        self.values: dict[Key, Any] = {}
        self.files: set[str] = set()
        self.functions: list[types.FunctionType] = []
        self._cls = cls
        self._namespace = namespace_of(cls)
        self._own_names = own_names(cls)
        self._labels: dict[int, str] = {}
        self._spaces: list[dict[str, Any]] = []  # kept alive for their ids
        self.referrers: dict[Key, tuple[Key | None, str]] = {}
        self._writing: Key | None = None
        self._follows_names = True
        self._asked = CodeQueries()
        self._classes: dict[type, None] = {}  # the user's, in the order in which they were found
        self.releases = ApplicationReleases()
        self.shared: list[ModuleObject] = []

    def follow(self, finder: _Packer) -> None:
        """Use the names and values that ``finder`` has found."""
        self.values, self.referrers = finder.values, finder.referrers
        self._labels, self._spaces = finder._labels, finder._spaces

    def write_name(self, key: Key) -> None:
        """Write a name and its value."""
        value = self.values[key]
        self._write((*key, value), value, key)
        if type(value) is ModuleObject:
            self._remember_as(value, value.value)

    def _remember_as(self, written: object, value: object) -> None:
        """Let ``value``, wherever else it is, arrive as what arrives for ``written``."""
        pickler: Any = self
        memo = pickler.memo.copy()
        number = memo[id(written)][0]
        if id(value) not in memo:
            del memo[id(written)]  # the reader counts as many objects
        memo[id(value)] = number, value
        pickler.memo = memo

    def share_with_modules(self) -> None:
        """Let a module's objects mean those in the container, whether names lead to them or, say,
        default arguments.
        """
        pickler: Any = self
        own = self._cls.__module__
        self.values.update(shared_objects.named(self.values, own))
        memo = pickler.memo.copy()
        self.shared = shared_objects.parts(memo, self.values, self.functions, own)

    def write_shared(self, shared: list[ModuleObject]) -> None:
        """Write objects of modules to which no name leads, as names of the modules."""
        for one in shared:
            self.dump((definition_load.MODULE + one.module, one.name, one))
            self._remember_as(one, one.value)

    def add_unnamed(self) -> None:
        """Add the statements that bind no name and depend on where they run."""
        if self.reruns.has_unnamed:
            self._add_rerun((self._label(self._namespace), UNNAMED), self._cls.__qualname__)

    def _add_rerun(self, key: Key, referrer: str) -> None:
        self.values[key] = self.reruns.stand_in(*key)
        self.referrers[key] = (self._writing, referrer)
        for one in self.reruns.reads_of(key[1]):
            self._add_name(key[0], self._namespace, one, key[1])

    def finish(self) -> None:
        """Complete what is known of names whose values do not travel as they are."""
        own = self._label(self._namespace)
        # In a notebook such an object may be what hours of work have made of it.
        if reruns.is_script(self._namespace):
            for (label, name), value in self.values.items():
                if label == own:
                    self.releases.add_plain(value, name)
        self.share_with_modules()
        self.reruns.place(self.values)

    def write_pending(self) -> None:
        """Write each name that was found, and those that its value leads to."""
        while self.pending:
            self.write_name(self.pending.popleft())
            if not self.pending:
                self._add_asked()

    def _add_asked(self) -> None:
        """Add the names that code finds by introspection of what was found so far."""
        label, space = self._label(self._namespace), self._namespace
        for cls in list(self._classes):
            names = annotated_names(cls, space, asked=self._asked.types)
            if self._asked.subclasses:
                names += [
                    one.__qualname__
                    for one in subclasses_of(cls)
                    if one.__module__ == self._cls.__module__
                ]
            for name in names:
                self._add_name(label, space, name, cls.__qualname__)
        for function in list(self.functions) if self._asked.types else ():
            place = self._label(function.__globals__)
            for name in annotated_names(function, function.__globals__, asked=True):
                self._add_name(place, function.__globals__, name, function.__name__)

    def can_travel(self, value: Any) -> bool:
        """Return whether a value can be pickled, with the names that its code reads."""
        try:
            despite_filters(lambda: self._pack_alone(value))
        except Exception:  # any error of the user's code
            return False
        return True

    def _pack_alone(self, value: Any) -> None:
        trial = _Packer(io.BytesIO(), self._cls, self.reruns, **self._options)
        trial.dump(value)
        trial.write_pending()

    def write_class(self, sources: dict[str, str] | None = None) -> None:
        """Write the class, with the text of its source files."""
        self._write((self._cls, sources or {}), self._cls, None)

    def _write(self, obj: Any, value: Any, key: Key | None) -> None:
        self._writing = key
        try:
            self.dump(obj)
        except Exception as error:
            path = (self._cls.__qualname__,) if key is None else (*self.path(key), key[1])
            refusal = unpicklable.error_for(value, path, error, self._pickle_alone)
            is_own = key is not None and key[0] == self._label(self._namespace)
            refusal.top_level_name = key[1] if key is not None and is_own else ""
            raise refusal from None

    def path(self, key: Key) -> tuple[str, ...]:
        """Return the functions that lead from the class to the code that refers to a name."""
        found: list[str] = []
        referrer: Key | None = key
        while referrer is not None and len(found) < 20:
            referrer, function = self.referrers[referrer]
            found.insert(0, function)
        return tuple(found)

    def _pickle_alone(self, value: Any) -> None:
        """Pickle a value by itself; raises if it can't be pickled."""
        packer = _Packer(io.BytesIO(), self._cls, self.reruns, **self._options)
        packer._follows_names = False
        packer.dump(value)

    def _can_pickle(self, value: Any) -> bool:
        """Return whether a value that the code may read can be pickled, without the names that
        its own code reads.
        """
        try:
            despite_filters(lambda: self._pickle_alone(value))
        except Exception:  # any error of the user's code
            return False
        return True

    # --- values that travel as another value -------------------------------------------------

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind in HANDLES:
            reduced = obj.__reduce__()
            if isinstance(reduced, tuple) and reduced[0] in TRAVELS:
                plain, key = reduced[1]
                own = self._own_definition(plain)
                return (travel_own, (own, key)) if own is not None else reduced
        if kind is types.CodeType:
            self.files.add(obj.co_filename)
        if is_application(obj):
            self.releases.add(obj, self._writing[1] if self._writing is not None else None)
        if (reduced := reduce_with_new_locks(obj) or reduce_environment(obj)) is not None:
            return reduced
        return super().reducer_override(obj)

    def _own_definition(self, plain: Any) -> Any:
        """Return the class, a base, or the function that the class is made from; otherwise None."""
        for one in self._cls.__mro__[:-1]:
            functions = (function_in(value) for value in vars(one).values())
            if one is plain or any(function is plain for function in functions):
                return plain
            if is_class(plain) and _name(one) == _name(plain):
                return one  # the class has been declared again meanwhile
        return None

    # --- names -------------------------------------------------------------------------------

    def place(self, function: types.FunctionType, needed: set[str]) -> tuple[Any, dict[str, Any]]:
        label = self._label(function.__globals__)
        if self._follows_names and not label.startswith(definition_load.STDLIB):
            self.functions.append(function)
            if label.partition("#")[0] != MAIN:
                needed = needed | {"__package__", "__path__", "__file__"}
            code, space = function.__code__, function.__globals__
            self._asked |= asked_by(code)
            referrer = function.__qualname__.rpartition("<locals>.")[2]
            for name in sorted(needed.union(names_by_string(code, space, spelled_out=True))):
                self._add_name(label, space, name, referrer)
            for name in names_by_string(code, space):
                if (label, name) not in self.values and self._can_pickle(space[name]):
                    self._add_name(label, space, name, referrer)
        return label, {}

    def _label(self, space: dict[str, Any]) -> str:
        """Return the label of a namespace: for a module's namespace, the module's name."""
        known = self._labels.get(id(space))
        if known is None:
            name = str(space.get("__name__", "?"))
            module = sys.modules.get(name)
            known = name
            is_modules = module is not None and vars(module) is space
            if is_modules and name != MAIN and name.partition(".")[0] in sys.stdlib_module_names:
                known = definition_load.STDLIB + name
            elif is_modules and name not in (MAIN, self._cls.__module__) and not is_ours(name):
                known = definition_load.MODULE + name
            elif name in self._labels.values() or name not in (MAIN, self._cls.__module__):
                known = f"{name}#{sum(one.startswith(name) for one in self._labels.values())}"
            self._labels[id(space)] = known
            self._spaces.append(space)
        return known

    def _add_name(self, label: str, space: dict[str, Any], name: str, referrer: str) -> None:
        key = (label, name)
        if key in self.values:
            return
        value = self._original(space, name)
        if value is not None:
            pass
        elif space is self._namespace and self.reruns.makes(name):
            self._add_rerun(key, referrer)
            return
        elif name not in space:
            value = shell_names.of_builtins(name)
            if value is None:
                return  # a builtin, or a NameError when it is read
        else:
            value = shell_names.outside_of(name, space[name])
            if value is shell_names.BUILTIN:
                return
            if (place := imported_objects.of_library(name, value)) is not None:
                value = ModuleObject(*place, value, with_content=False)
        self.values[key] = value
        self.referrers[key] = (self._writing, referrer)
        self.pending.append(key)

    def _original(self, space: dict[str, Any], name: str) -> Any:
        """Return the packed class, a base or its function by name; None for any other name.

        The name may hold a handle, or a newer class, by now.
        """
        found = self._own_names.get(name) if space is self._namespace else None
        value = space.get(name, found)
        is_handle = type(value) in HANDLES
        return found if is_handle or is_class(value) else None

    def _reduce_function(self, function: types.FunctionType) -> Reduced:
        self._define(function)
        self.files.add(function.__code__.co_filename)
        return super()._reduce_function(function)

    def _reduce_class(self, cls: type) -> Reduced:
        self._define(cls)
        self._classes[cls] = None
        return super()._reduce_class(cls)

    def _reduce_enum(self, cls: type) -> Reduced:
        self._define(cls)
        return super()._reduce_enum(cls)

    def _define(self, thing: Any) -> None:
        """Record a definition under its own name, where pickle and other libraries look for it."""
        name = thing.__qualname__
        if thing.__module__ == self._cls.__module__ and (
            self._own_names.get(name) is thing or self._namespace.get(name) is thing
        ):
            if name not in self._own_names:
                self.reruns.refuse_copy(name)
            self._add_name(self._label(self._namespace), self._namespace, name, name)


def _name(cls: type) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__
