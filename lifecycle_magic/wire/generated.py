"""Functions that the standard library generates for a class, for a Python of another version.

The methods of dataclasses and named tuples are compiled from strings that nothing keeps. They are
generated again where the class arrives, from the same fields.
"""

from __future__ import annotations

import types
from typing import Any

from lifecycle_magic.wire import definition_load, definitions
from lifecycle_magic.wire.reducers import Reduced

__all__ = ["dispatcher", "generated_functions", "is_left_out", "reducer_of"]

_FIELD_OPTIONS = ("default", "default_factory", "init", "repr", "hash", "compare", "kw_only")
_EVERY_OPTION = ("init", "repr", "eq", "order", "unsafe_hash", "frozen")
_FROM_STRING = "<string>"


# --- the sender ----------------------------------------------------------------------------------


def generated_functions(cls: type) -> dict[int, Reduced]:
    """Return what makes each generated function of a class again, by the function's ``id``."""
    own = vars(cls)
    names = {name: one for name, value in own.items() if (one := _generated(value)) is not None}
    if not names:
        return {}
    if "__dataclass_fields__" in own:
        make, recipe = make_dataclass_function, _dataclass_recipe(cls)
    elif issubclass(cls, tuple) and "_fields" in own and "_field_defaults" in own:
        fields, defaults = own["_fields"], own["_field_defaults"]
        given = [defaults[name] for name in fields if name in defaults]
        make, recipe = make_tuple_function, (cls.__name__, fields, given, cls.__module__)
    else:
        return {}
    found: dict[int, Reduced] = {}
    for name, function in names.items():
        notes = _annotations(function)
        state: tuple[Any, ...] = ({"__annotations__": notes} if notes else {}, {}, [], {}, None)
        reduced = make, (recipe, name), state, None, None, definitions.fill_function
        found[id(function)] = reduced
    return found


def _generated(value: Any) -> types.FunctionType | None:
    """Return the function of a class attribute if the standard library generated it."""
    function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
    if not isinstance(function, types.FunctionType):
        return None
    inner = getattr(function, "__wrapped__", function)  # a dataclass's __repr__ is wrapped
    code = getattr(inner, "__code__", function.__code__)
    if code.co_filename == _FROM_STRING:
        return function
    # 3.11 and later; earlier versions have the module alone
    of_tuple = function.__globals__.get("__name__") == "collections"
    return function if of_tuple else None


def _annotations(function: types.FunctionType) -> dict[str, Any]:
    try:
        return dict(function.__annotations__)
    except NameError:  # Python 3.14 evaluates annotations late, and a name is missing
        return {}


def _dataclass_recipe(cls: Any) -> tuple[Any, ...]:
    fields = []
    for name, field in cls.__dataclass_fields__.items():
        kind = field._field_type.name
        if kind == "_FIELD_CLASSVAR":
            continue
        options = {key: getattr(field, key) for key in _FIELD_OPTIONS}
        fields.append((name, kind == "_FIELD_INITVAR", options))
    chosen = {key: getattr(cls.__dataclass_params__, key) for key in _EVERY_OPTION}
    return cls, tuple(fields), chosen, hasattr(cls, "__post_init__")


def dispatcher(function: types.FunctionType) -> Reduced | None:
    """Return the reduce value of what ``functools.singledispatch`` returns, None for others.

    Its inner functions differ between versions; what was registered is all that it knows.
    """
    if (
        function.__code__.co_name != "wrapper"
        or function.__globals__.get("__name__") != "functools"
    ):
        return None
    registry = vars(function).get("registry")
    if not isinstance(registry, types.MappingProxyType) or object not in registry:
        return None
    own = {name: one for name, one in vars(function).items() if name not in _OF_DISPATCHERS}
    others = [(cls, one) for cls, one in registry.items() if cls is not object]
    state: tuple[Any, ...] = ({}, own, [], {}, others)
    return make_dispatcher, (registry[object],), state, None, None, fill_dispatcher


_OF_DISPATCHERS = ("register", "dispatch", "registry", "_clear_cache", "__wrapped__")


def is_left_out(cls: type, name: str, value: Any) -> bool:
    """Return whether a class attribute is one that the standard library sets by itself.

    So it may have another name, or not exist, in another version.
    """
    kinds = (classmethod, staticmethod, types.MethodType)
    function = value.__func__ if isinstance(value, kinds) else value
    if getattr(function, "__module__", None) == "dataclasses":
        return name == "__replace__"
    if not isinstance(function, types.FunctionType) or function.__module__ != "enum":
        return False
    return name == "_iter_member_" or any(vars(one).get(name) is value for one in cls.__mro__[1:])


def reducer_of(value: Any) -> Reduced | None:
    """Return the reduce value of a value of the standard library whose content differs between
    versions: an annotation that is a string, a method that dispatches, a dataclass's field or
    options. None for others.
    """
    kind = type(value)
    if kind.__name__ == "ForwardRef" and kind.__module__ in ("typing", "annotationlib"):
        options = {
            "module": getattr(value, "__forward_module__", None),
            "is_argument": getattr(value, "__forward_is_argument__", True),
            "is_class": getattr(value, "__forward_is_class__", False),
        }
        return make_forward_reference, (value.__forward_arg__, options)
    if kind.__name__ == "singledispatchmethod" and kind.__module__ == "functools":
        others = {cls: one for cls, one in value.dispatcher.registry.items() if cls is not object}
        return make_method_dispatcher, (value.func, list(others.items()))
    if kind.__module__ != "dataclasses" or kind.__name__ not in ("Field", "_DataclassParams"):
        return None
    parts = {name: getattr(value, name) for name in kind.__slots__ if hasattr(value, name)}
    if kind.__name__ == "_DataclassParams":
        return make_options, (parts,)
    parts["_field_type"] = getattr(parts["_field_type"], "name", None)
    parts["metadata"] = dict(parts["metadata"])
    return make_field, (parts,)


# --- the receiver --------------------------------------------------------------------------------


def make_forward_reference(text: str, options: dict[str, Any]) -> Any:
    """Return what ``typing`` makes of an annotation that is a string."""
    import typing

    make: Any = typing.ForwardRef
    return make(text, **options)


def make_method_dispatcher(function: Any, others: list[tuple[type, Any]]) -> Any:
    """Return a ``functools.singledispatchmethod`` with these functions for other types."""
    import functools

    made = functools.singledispatchmethod(function)
    for cls, one in others:
        made.dispatcher.register(cls, one)
    return made


def make_options(parts: dict[str, bool]) -> Any:
    """Return the options of a dataclass, as far as this version of Python knows them."""
    import dataclasses

    @dataclasses.dataclass
    class Plain:
        pass

    made: Any = Plain.__dataclass_params__  # type: ignore[attr-defined]
    for name in type(made).__slots__:
        if name in parts:
            setattr(made, name, parts[name])
    return made


def make_field(parts: dict[str, Any]) -> Any:
    """Return a field of a dataclass."""
    import dataclasses

    options = {key: parts[key] for key in _FIELD_OPTIONS if parts[key] is not dataclasses.MISSING}
    default = options.pop("default", dataclasses.MISSING)
    made: Any = dataclasses.field(metadata=parts["metadata"] or None, **options)
    made.default = default
    made.name, made.type = parts["name"], parts["type"]
    made._field_type = getattr(dataclasses, str(parts["_field_type"]), None)
    return made


def make_dataclass_function(recipe: tuple[Any, ...], name: str) -> types.FunctionType:
    """Return a method that the dataclass decorator generates for these fields."""
    cls, fields, options, has_post_init = recipe

    def make() -> types.FunctionType:
        import dataclasses

        body: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
        notes: dict[str, Any] = {}
        body["__annotations__"] = notes
        for field, is_init_only, chosen in fields:
            notes[field] = dataclasses.InitVar[object] if is_init_only else object
            given = {key: one for key, one in chosen.items() if one is not dataclasses.MISSING}
            body[field] = dataclasses.field(**given)
        if has_post_init:
            body["__post_init__"] = None
        made: Any = dataclasses.dataclass(**options)(type(cls.__name__, (), body))
        function: types.FunctionType = vars(made)[name]
        for cell in function.__closure__ or ():
            if cell.cell_contents is made:  # of a frozen class: type(self) is cls
                cell.cell_contents = cls
        return function

    return definitions.entered(make)


def make_dispatcher(function: Any) -> types.FunctionType:
    """Return a single-dispatch function for which nothing else is registered."""
    import functools

    make: Any = functools.singledispatch
    return definitions.entered(lambda: make(function))


def fill_dispatcher(function: Any, state: tuple[Any, ...]) -> None:
    """Register the functions for other types, unless the function is a live object."""
    *_, others = state
    if not definition_load.is_kept(function):
        for cls, one in others:
            function.register(cls, one)
    definitions.fill_function(function, state)


def make_tuple_function(recipe: tuple[Any, ...], name: str) -> types.FunctionType:
    """Return a method that a named tuple of these fields has."""
    title, fields, defaults, module = recipe

    def make() -> types.FunctionType:
        import collections

        make_class: Any = collections.namedtuple
        made = make_class(title, fields, defaults=defaults or None, module=module)
        found = vars(made).get(name, getattr(made, name, None))
        function: types.FunctionType = getattr(found, "__func__", found)
        return function

    return definitions.entered(make)
