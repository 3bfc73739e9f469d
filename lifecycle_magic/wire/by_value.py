"""Cloudpickle's pickler, with definitions that mean the same where they arrive.

cloudpickle sends functions and classes by value. This pickler also keeps what cloudpickle drops:
names of source files, cells that two closures share, ``__slots__``, aliases, and attributes of enum
members. `wire.definitions` rebuilds the definitions on arrival.
"""

from __future__ import annotations

import importlib
import pickle
import sys
import types
from collections import OrderedDict, deque
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

import cloudpickle
from cloudpickle import cloudpickle as library

from lifecycle_magic.wire import definitions, exceptions, native_types
from lifecycle_magic.wire.annotations import names
from lifecycle_magic.wire.class_bodies import names_in_class_bodies
from lifecycle_magic.wire.dispatch_table import DispatchTable
from lifecycle_magic.wire.pydantic_models import parameters_of
from lifecycle_magic.wire.python_versions import python_minor, sources_enabled
from lifecycle_magic.wire.reducers import Reduced, reducer_of

__all__ = ["OF_CLASSES", "OF_ENUMS", "ByValue", "is_enum", "is_named", "is_slot", "written_in"]

_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)
# Python creates these again, or they belong to one process.
OF_CLASSES = frozenset(
    {
        "__annotate_func__",
        "__annotations_cache__",
        "__classdictcell__",
        "__dict__",
        "__module__",
        "__orig_bases__",
        "__qualname__",
        "__slotnames__",
        "__slots__",
        "__weakref__",
        "_abc_impl",
    }
)
OF_ENUMS = frozenset(
    {
        "__new__",
        "__new_member__",
        "_all_bits_",
        "_boundary_",
        "_flag_mask_",
        "_generate_next_value_",
        "_hashable_values_",
        "_inverted_",
        "_member_map_",
        "_member_names_",
        "_member_type_",
        "_new_member_",
        "_singles_mask_",
        "_unhashable_values_",
        "_unhashable_values_map_",
        "_use_args_",
        "_value2member_map_",
        "_value_repr_",
    }
)
_OF_MEMBERS = frozenset({"_value_", "_name_", "__objclass__", "_sort_order_", "_inverted_"})
_OF_FUNCTIONS = (
    "__name__",
    "__qualname__",
    "__module__",
    "__doc__",
    "__defaults__",
    "__kwdefaults__",
)


class ByValue(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickler that sends definitions of the notebook or script by value, and all others by name.

    With ``sources``, by default if `wire.python_versions.sources_enabled`, code travels as source
    text, which every supported Python reads. Code without source text travels as bytecode then,
    which only the same minor version reads, or raises `pickle.PicklingError` with ``strict``.
    """

    def __init__(
        self,
        file: Any,
        buffer_callback: Any = None,
        *,
        sources: bool | None = None,
        strict: bool = False,
    ) -> None:
        self.dispatch_table = DispatchTable(library.Pickler.dispatch_table)
        super().__init__(file, 5, buffer_callback)  # reads the table
        self._sources = sources_enabled() if sources is None else sources
        self._strict = strict
        self._generated: dict[int, Reduced] = {}  # functions that the standard library generates
        self._cells: dict[int, types.CellType] = {}  # of functions, by id
        self._unfinished: set[type] = set()  # classes whose attributes are being written

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is types.FunctionType:
            return NotImplemented if is_named(obj) else self._reduce_function(obj)
        if kind is types.CodeType:
            return self._reduce_bytecode(obj) if self._sources else _reduce_code(obj)
        if kind is types.CellType:
            return self._reduce_cell(obj)
        if self._sources and (reduced := _generated().reducer_of(obj)) is not None:
            return reduced
        reducer = reducer_of(kind)
        if reducer is not None and (reduced := reducer(obj)) is not None:
            return reduced
        if issubclass(kind, type):
            if obj in library._BUILTIN_TYPE_NAMES or is_named(obj):
                return library._class_reduce(obj)
            if native_types.is_native(obj):
                return native_types.reduce(obj)
            return self._reduce_enum(obj) if is_enum(obj) else self._reduce_class(obj)
        if issubclass(kind, BaseException) and not exceptions.defines_reduce(kind):
            return exceptions.reduce(obj)
        if issubclass(kind, _COLLECTIONS) and not is_named(kind):
            from lifecycle_magic.wire import collection_types

            return collection_types.reduce(obj) or NotImplemented
        if kind is _FirstAttributes:
            return definitions.set_first, (obj.cls, obj.values)
        if kind is _EndOfClass:
            self._unfinished.discard(obj.cls)
            return dict, ()
        return NotImplemented

    # --- functions -----------------------------------------------------------------------

    def place(self, function: types.FunctionType, needed: set[str]) -> tuple[Any, dict[str, Any]]:
        """Return the namespace that a function gets on arrival, and the names to store there for
        it.

        Functions that share a namespace here share one on arrival.
        """
        space = function.__globals__
        made = self.globals_ref.setdefault(id(space), {})
        for name in ("__package__", "__name__", "__path__", "__file__"):
            if name in space:
                made.setdefault(name, space[name])
        return made, {name: space[name] for name in sorted(needed) if name in space}

    def _reduce_function(self, function: types.FunctionType) -> Reduced:
        if id(function) in self._generated:
            return self._generated[id(function)]
        dispatcher = _generated().dispatcher(function) if self._sources else None
        if dispatcher is not None:
            return tuple(dispatcher)
        code, space = function.__code__, function.__globals__
        by_name = names(function) | names_in_class_bodies(code)
        needed = set(library._extract_code_globals(code)) | (by_name & space.keys())
        where, inside = self.place(function, needed)
        cells = function.__closure__
        contents = [] if cells is None else self._contents(cells)
        values = [space[name] for name in needed if name in space]
        values += [content for _, content in contents]
        state = (
            self._function_attributes(function),
            dict(function.__dict__),
            contents,
            inside,
            library._find_imported_submodules(code, values),
        )
        make: Any = definitions.make_function
        made: tuple[Any, ...] = (code, where, cells)
        if self._sources:
            make = definitions.make_function_from_source
            made = (self._stored_code(function), code.co_freevars, where, cells)
        return make, made, state, None, None, definitions.fill_function

    def _stored_code(self, function: types.FunctionType) -> Any:
        """Return the code of a function as every supported Python reads it."""
        from lifecycle_magic.wire import source_code

        code = function.__code__
        if (place := source_code.find_in_library(function)) is not None:
            return source_code.StoredCode(source_code.from_library, tuple(place))
        if (piece := source_code.find(code)) is not None:
            return source_code.StoredCode(source_code.compiled, tuple(piece))
        if self._strict:
            raise pickle.PicklingError(
                f"it has no source text that another version of Python could compile: "
                f"{function.__qualname__} of {code.co_filename} was made by exec, or its file was "
                "edited since. Fix: define it in a cell or file and run that again, or use an "
                f"image with this kernel's Python, {python_minor()}"
            )
        return code

    def _reduce_bytecode(self, code: types.CodeType) -> Reduced:
        from lifecycle_magic.wire import source_code

        make, arguments = _reduce_code(code)
        name = f"{code.co_name} of {code.co_filename}"
        return source_code.by_minor, (python_minor(), name, make, arguments)

    def _contents(self, cells: tuple[types.CellType, ...]) -> list[tuple[types.CellType, Any]]:
        """Return the cells that this pickle has not filled yet, with their contents."""
        found = []
        for cell in cells:
            if id(cell) in self._cells:
                continue
            self._cells[id(cell)] = cell
            try:
                found.append((cell, cell.cell_contents))
            except ValueError:  # not assigned yet
                continue
        return found

    def _function_attributes(self, function: types.FunctionType) -> dict[str, Any]:
        found = {name: getattr(function, name) for name in _OF_FUNCTIONS}
        try:
            found["__annotations__"] = dict(function.__annotations__)
        except NameError:  # Python 3.14 evaluates annotations late, and a name is missing
            pass
        if getattr(function, "__type_params__", ()):
            found["__type_params__"] = function.__type_params__  # type: ignore[attr-defined]
        return found

    def _reduce_cell(self, cell: types.CellType) -> Reduced:
        if id(cell) in self._cells:
            return definitions.make_cell, ()  # the function that uses it brings its content
        try:
            content = cell.cell_contents
        except ValueError:
            return definitions.make_cell, ()
        return definitions.make_cell, (), (content,), None, None, definitions.fill_lone_cell

    # --- classes -------------------------------------------------------------------------

    def _reduce_class(self, cls: type) -> Reduced:
        origin, arguments = parameters_of(cls)
        if origin is not None and origin not in self._unfinished:
            return definitions.make_parametrized, (origin, arguments)
        meta: Any = type(cls)
        line = meta.__mro__
        plain = all(one in _TYPES or _is_stdlib(one) or not is_named(one) for one in line)
        body = _body(cls)
        made = (meta, cls.__name__, cls.__bases__, body, plain, definitions.id_of(cls))
        self._unfinished.add(cls)
        written = self._written_in(cls)
        state = (_FirstAttributes(cls, written), written, registered(cls), _EndOfClass(cls))
        return definitions.make_class, made, state, None, None, definitions.fill_class

    def _reduce_enum(self, cls: type) -> Reduced:
        return _reduce_enum(cls, self._written_in(cls))

    def _written_in(self, cls: type) -> dict[str, Any]:
        found = written_in(cls)
        if self._sources:
            self._generated.update(_generated().generated_functions(cls))
            left_out = _generated().is_left_out
            found = {name: one for name, one in found.items() if not left_out(cls, name, one)}
        return found


class _FirstAttributes:
    """What a class has before its other attributes are read: its methods and constants, and empty
    collections.

    Instances of the class may be among its attributes, and its own code rebuilds them: a
    ``__new__`` that looks into a table of the class, or a ``__hash__``.
    """

    def __init__(self, cls: type, written: dict[str, Any]) -> None:
        self.cls = cls
        methods = {name: one for name, one in written.items() if type(one) in _METHODS}
        data = {name: one for name, one in written.items() if name[:2] != "__"}
        constants = {name: one for name, one in data.items() if type(one) in _CONSTANTS}
        empty = {name: type(one)() for name, one in data.items() if type(one) in _EMPTIED}
        self.values = {**methods, **constants, **empty}


class _EndOfClass:
    """Marker written after the attributes of a class. It arrives as an empty dict of enum
    members.
    """

    def __init__(self, cls: type) -> None:
        self.cls = cls


_METHODS = (types.FunctionType, staticmethod, classmethod, property)
_CONSTANTS = (type(None), bool, int, float, complex, str, bytes)
_EMPTIED = (dict, list, set, OrderedDict, deque, WeakSet, WeakKeyDictionary, WeakValueDictionary)
_TYPES = (type, object)
_COLLECTIONS = (dict, list, set, frozenset, deque)
_STDLIB = frozenset(sys.stdlib_module_names) - {"__main__"}


def is_named(thing: Any) -> bool:
    """Return whether a function or class can be found by its name where it arrives."""
    return bool(library._should_pickle_by_reference(thing))


def is_slot(value: Any) -> bool:
    """Return whether an attribute of a class is a descriptor for a slot of its instances."""
    return isinstance(value, _DESCRIPTORS)


def _is_stdlib(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in _STDLIB


def _reduce_code(code: types.CodeType) -> Reduced:
    """Reduce a code object as cloudpickle does, but keep the name of its source file.

    cloudpickle writes ``<dynamic-code>`` instead, and a traceback would then show neither the file
    nor the lines.
    """
    make, arguments = library.Pickler.dispatch_table[types.CodeType](code)
    named = (code.co_filename if _is_placeholder(one) else one for one in arguments)
    return make, tuple(named)


def _is_placeholder(argument: object) -> bool:
    return isinstance(argument, str) and argument == "<dynamic-code>"


def _body(cls: type) -> dict[str, Any]:
    """Return the attributes that must exist while a class is created."""
    own = vars(cls)
    kept = {name: own[name] for name in ("__slots__", "__orig_bases__") if name in own}
    return {"__module__": cls.__module__, "__qualname__": cls.__qualname__, **kept}


def written_in(cls: type) -> dict[str, Any]:
    """Return the attributes of a class itself, without those that Python keeps there for its own
    use.
    """
    found = {
        name: value
        for name, value in vars(cls).items()
        if name not in OF_CLASSES and not is_slot(value)
    }
    if sys.version_info >= (3, 14) and "__annotations__" not in found:
        found |= _late_annotations(cls)
    return found


def _late_annotations(cls: type) -> dict[str, Any]:
    """Return the annotations of a class in Python 3.14, which evaluates them when they are read."""
    try:
        found = dict(cls.__annotations__)
    except NameError:
        annotationlib: Any = importlib.import_module("annotationlib")
        found = annotationlib.get_annotations(cls, format=annotationlib.Format.STRING)
    return {"__annotations__": found} if found else {}


def registered(cls: type) -> list[type]:
    """Return the virtual subclasses of an abstract class."""
    if "_abc_impl" not in vars(cls):
        return []
    import abc

    registry = abc._get_dump(cls)[0]  # type: ignore[attr-defined]
    return [found for one in registry if (found := one()) is not None]


def is_enum(cls: type) -> bool:
    """Return whether a class is an enum."""
    enum = sys.modules.get("enum")
    return enum is not None and issubclass(cls, enum.Enum) and bool(cls.__bases__)


def _generated() -> types.ModuleType:
    from lifecycle_magic.wire import generated  # only another Python needs it

    return generated


def _reduce_enum(cls: Any, attributes: dict[str, Any]) -> Reduced:
    members = {name: member._value_ for name, member in cls.__members__.items()}
    own = {
        name: {key: value for key, value in vars(member).items() if key not in _OF_MEMBERS}
        for name, member in cls.__members__.items()
        if hasattr(member, "__dict__")
    }
    written = {
        name: value
        for name, value in attributes.items()
        if name not in OF_ENUMS and name not in members
    }
    options = {"boundary": cls._boundary_.name} if hasattr(cls, "_boundary_") else {}
    made = (cls.__bases__, cls.__name__, _body(cls), members, options, definitions.id_of(cls))
    extras = {name: one for name, one in own.items() if one}
    state = (_FirstAttributes(cls, written), written, registered(cls), extras)
    return definitions.make_enum, made, state, None, None, definitions.fill_class
