"""Reducers for values that pickle by a name, or not at all, although their content can travel.

Each reducer takes such a value apart as ``__reduce__`` would. A reducer is found by the name of the
type, so that no library has to be imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

Reduced = tuple[Any, ...]


def reducer_of(kind: type) -> Callable[[Any], Reduced | None] | None:
    """Return the reducer for values of exactly this type; None if pickle handles the type well."""
    found = _REDUCERS.get(kind.__name__)
    if found is None or kind.__module__ not in found:
        return None
    return found[kind.__module__]


# --- functools -----------------------------------------------------------------------------------


def _cached_property(value: Any) -> Reduced:
    return make_cached_property, (value.func, value.attrname, value.__doc__)


def make_cached_property(function: Any, name: str | None, doc: str | None) -> Any:
    """Return a ``functools.cached_property`` that knows its name."""
    import functools

    made = functools.cached_property(function)
    made.attrname, made.__doc__ = name, doc
    return made


def _cached_function(value: Any) -> Reduced | None:
    parameters = getattr(value, "cache_parameters", None)
    if parameters is None or _is_importable(value):
        return None
    own = {name: one for name, one in vars(value).items() if name not in _OF_CACHED}
    return make_cached_function, (value.__wrapped__, parameters()), own, None, None, fill_values


_OF_CACHED = ("__wrapped__", "cache_parameters")


def make_cached_function(function: Any, parameters: dict[str, Any]) -> Any:
    """Return a function with an empty ``functools.lru_cache``."""
    import functools

    return functools.lru_cache(**parameters)(function)


def _partial_method(value: Any) -> Reduced:
    # Python 3.14 makes none without its function, and so can't read its own pickle of one.
    return make_partial_method, (value.func, value.args, value.keywords)


def make_partial_method(function: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Return a ``functools.partialmethod``."""
    import functools

    return functools.partialmethod(function, *args, **options)


def fill_values(made: Any, values: dict[str, Any]) -> None:
    """Set the attributes of an object."""
    vars(made).update(values)


# --- typing --------------------------------------------------------------------------------------


def _new_type(value: Any) -> Reduced | None:
    if _is_importable(value):
        return None
    own = (value.__module__, value.__qualname__)
    return make_new_type, (value.__name__, value.__supertype__, *own)


def make_new_type(name: str, supertype: Any, module: str, qualname: str) -> Any:
    """Return a ``typing.NewType``."""
    import typing

    kind: Any = typing.NewType
    made = kind(name, supertype)
    made.__module__, made.__qualname__ = module, qualname
    return made


def _type_parameter(value: Any) -> Reduced | None:
    if _is_importable(value):
        return None
    return make_type_parameter, (type(value), value.__name__, value.__module__)


def make_type_parameter(kind: Any, name: str, module: str) -> Any:
    """Return a ``ParamSpec`` or ``TypeVarTuple``."""
    made = kind(name)
    made.__module__ = module
    return made


def _forward_reference(value: Any) -> Reduced | None:
    # What it was evaluated to leads back to the class around it, which is not there yet.
    flags = (value.__forward_is_argument__, value.__forward_module__, value.__forward_is_class__)
    return make_forward_reference, (value.__forward_arg__, *flags)


def make_forward_reference(name: str, is_argument: bool, module: Any, is_class: bool) -> Any:
    """Return a ``typing.ForwardRef`` that has not been evaluated."""
    import typing

    return typing.ForwardRef(name, is_argument, module, is_class=is_class)


def _type_alias(value: Any) -> Reduced | None:
    if _is_importable(value):
        return None
    return make_type_alias, (value.__name__, value.__value__, value.__type_params__)


def make_type_alias(name: str, value: Any, parameters: tuple[Any, ...]) -> Any:
    """Return what a ``type`` statement of Python 3.12 creates."""
    import typing

    return typing.TypeAliasType(name, value, type_params=parameters)  # type: ignore[attr-defined]


# --- sentinels, weak containers ------------------------------------------------------------------


def _sentinel(names: dict[str, str]) -> Callable[[Any], Reduced | None]:
    def reduce(value: Any) -> Reduced | None:
        module = sys.modules[type(value).__module__]
        name = names[type(value).__name__]
        return (getattr, (module, name)) if getattr(module, name, None) is value else None

    return reduce


_SENTINELS = {
    "_MISSING_TYPE": "MISSING",
    "_HAS_DEFAULT_FACTORY_CLASS": "_HAS_DEFAULT_FACTORY",
    "_KW_ONLY_TYPE": "KW_ONLY",
}


def _weak_mapping(value: Any) -> Reduced:
    return type(value), (dict(value),)


def _weak_reference(value: Any) -> Reduced:
    return make_weak_reference, (value(),)


def make_weak_reference(target: Any) -> Any:
    """Return a weak reference; a dead one for None."""
    import weakref

    class Dead:
        pass

    return weakref.ref(Dead() if target is None else target)


# --- objects of the standard library that refuse to be pickled ------------------------------------


def _compiled_format(value: Any) -> Reduced:
    return type(value), (value.format,)


def _thread_local(value: Any) -> Reduced:
    return type(value), (), dict(value.__dict__), None, None, fill_values  # of this thread


def _system_random(value: Any) -> Reduced:
    return type(value), ()


def _sort_key(value: Any) -> Reduced | None:
    """Reduce what ``functools.cmp_to_key`` returns, which hides its function."""
    import functools
    import gc

    found = [one for one in gc.get_referents(value) if callable(one) and not isinstance(one, type)]
    return (functools.cmp_to_key, (found[0],)) if len(found) == 1 else None


# argparse compares this one string by identity, which does not survive a pickle.
_SUPPRESSED = ("default", "dest", "help", "argument_default", "usage")


def _argument(value: Any) -> Reduced | None:
    """Reduce an action, a group or a parser of argparse with `argparse.SUPPRESS` in it."""
    import argparse

    reduced = value.__reduce_ex__(4)
    state = reduced[2]
    if not isinstance(state, dict):
        return None
    names = [name for name in _SUPPRESSED if state.get(name) is argparse.SUPPRESS]
    rest = {name: one for name, one in state.items() if name not in names}
    return (*reduced[:2], (rest, names), None, None, fill_argument)


_OF_ARGPARSE = (
    *("ArgumentParser", "_ArgumentGroup", "_MutuallyExclusiveGroup", "_SubParsersAction"),
    *("_StoreAction", "_StoreConstAction", "_StoreTrueAction", "_StoreFalseAction"),
    *("_AppendAction", "_AppendConstAction", "_CountAction", "_ExtendAction", "_HelpAction"),
    *("_VersionAction", "BooleanOptionalAction", "_ChoicesPseudoAction"),
)


def fill_argument(made: Any, state: tuple[dict[str, Any], list[str]]) -> None:
    """Set the attributes of an action, a group or a parser of argparse."""
    import argparse

    vars(made).update(state[0], **dict.fromkeys(state[1], argparse.SUPPRESS))


# --- contextlib ---------------------------------------------------------------------------------


def _context_manager(value: Any) -> Reduced | None:
    # As a decorator it recreates itself for each call, from these same three values.
    return (type(value), (value.func, value.args, value.kwds)) if _is_unused(value.gen) else None


def _is_unused(generator: Any) -> bool:
    """Return whether no code of a generator, sync or async, has run yet."""
    kind = "gi" if hasattr(generator, "gi_frame") else "ag"
    frame = getattr(generator, f"{kind}_frame")
    if frame is None or getattr(generator, f"{kind}_running"):
        return False
    suspended = getattr(generator, f"{kind}_suspended", None)
    if suspended is not None:
        return not suspended
    # Python 3.10 has no such attribute, 3.11 none of async generators.
    import opcode

    last: int = frame.f_lasti
    return last < 0 or opcode.opname[frame.f_code.co_code[last]] == "RETURN_GENERATOR"


# --- context variables ---------------------------------------------------------------------------


def _context_variable(value: Any) -> Reduced:
    from lifecycle_magic.wire import context_variables

    return context_variables.reduce(value)


# --- files, IPython, starlette -------------------------------------------------------------------


_OF_KERNEL = {"raw_input": ("builtins", "input"), "getpass": ("getpass", "getpass")}


def replaced_by_kernel(value: Any) -> tuple[str, str] | None:
    """Return module and name of the function that a bound method of ipykernel replaces.

    While a cell runs, ``input`` and ``getpass.getpass`` are methods of the kernel.
    """
    owner = sys.modules.get("ipykernel.kernelbase")
    if owner is None or not isinstance(value.__self__, owner.Kernel):
        return None
    return _OF_KERNEL.get(value.__name__)


def place_of(value: Any) -> tuple[str, str] | None:
    """Return module and name of what a bound method stands for where it arrives.

    ``random.seed`` is a method of an object of the module. A copy of that object would have a
    state of its own, which ``random.random`` does not read.
    """
    place = replaced_by_kernel(value)
    if place is not None:
        return place
    # A method of a `functools.partial` has no name.
    name, owner = getattr(value, "__name__", ""), value.__self__
    module = sys.modules.get(type(owner).__module__)
    if module is None or module.__name__ in ("__main__", "builtins"):
        return None
    found: Any = vars(module).get(name)
    if type(found) is not type(value) or found.__self__ is not owner or found.__name__ != name:
        return None
    from cloudpickle import cloudpickle

    return (module.__name__, name) if cloudpickle._should_pickle_by_reference(module) else None


def _method(value: Any) -> Reduced | None:
    place = place_of(value)
    if place is None:
        return None
    import importlib

    return getattr, (importlib.import_module(place[0]), place[1])


def _file(value: Any) -> Reduced | None:
    # cloudpickle would send the unread content, as an object that is not a file.
    if value in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        return None
    raise TypeError("cannot pickle an open file")


def _shell_list(value: Any) -> Reduced:
    return list, (list(value),)


def _shell_text(value: Any) -> Reduced:
    return str, (str(value),)


def _state(value: Any) -> Reduced:
    # Unpickled as it is, its __getattr__ would look for _state, and recurse.
    return type(value), (dict(value._state),)


def _is_importable(value: Any) -> bool:
    """Return whether the value is found by its name in a module that exists where it arrives."""
    module = getattr(value, "__module__", None)
    if module is None or module == "__main__":
        return False
    from cloudpickle import cloudpickle

    found: Any = sys.modules.get(module)
    if found is None or module in cloudpickle.list_registry_pickle_by_value():
        return False
    for name in getattr(value, "__qualname__", value.__name__).split("."):
        found = getattr(found, name, None)
    return found is value


_REDUCERS: dict[str, dict[str, Callable[[Any], Reduced | None]]] = {
    "cached_property": {"functools": _cached_property},
    "_lru_cache_wrapper": {"functools": _cached_function},
    "partialmethod": {"functools": _partial_method},
    "NewType": {"typing": _new_type},
    "ForwardRef": {"typing": _forward_reference},  # Python 3.14 has it in `annotationlib`
    "ParamSpec": {"typing": _type_parameter},
    "TypeVarTuple": {"typing": _type_parameter},
    "TypeAliasType": {"typing": _type_alias},
    **{name: {"dataclasses": _sentinel(_SENTINELS)} for name in _SENTINELS},
    "WeakKeyDictionary": {"weakref": _weak_mapping},
    "WeakValueDictionary": {"weakref": _weak_mapping},
    "ReferenceType": {"weakref": _weak_reference},
    "_GeneratorContextManager": {"contextlib": _context_manager},
    "_AsyncGeneratorContextManager": {"contextlib": _context_manager},
    "Struct": {"_struct": _compiled_format},
    "_local": {"_thread": _thread_local},
    "SystemRandom": {"random": _system_random},
    "KeyWrapper": {"functools": _sort_key},
    **{name: {"argparse": _argument} for name in _OF_ARGPARSE},
    "ContextVar": dict.fromkeys(("_contextvars", "contextvars"), _context_variable),
    "TextIOWrapper": {"_io": _file},
    **{name: {"builtins": _method} for name in ("method", "builtin_function_or_method")},
    "SList": {"IPython.utils.text": _shell_list},
    "LSString": {"IPython.utils.text": _shell_text},
    "State": {"starlette.datastructures": _state},
}
