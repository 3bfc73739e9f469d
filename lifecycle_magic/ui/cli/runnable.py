"""Targets of ``lifecycle-magic run``: entry points, functions, and methods of classes.

script.py                 the only entry point, or without one the only function or method
script.py::name           an entry point or a function
script.py::Class.method   a method; the constructor's arguments are options too
script.py::app.name       one of those, of the app that the script calls ``app``
"""

from __future__ import annotations

import asyncio
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifecycle_magic.app import App
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.handles.cls import Cls
from lifecycle_magic.handles.function import Function
from lifecycle_magic.ui.cli.entry_options import EntryArguments, EntryParameter, parameters_of
from lifecycle_magic.ui.cli.main_module import has_main_block

__all__ = ["Runnable", "find"]


@dataclass(frozen=True)
class Runnable:
    """Something to call from the command line.

    ``call`` gets the arguments of all ``parameters`` together.
    """

    name: str
    parameters: tuple[EntryParameter, ...]
    about: str | None
    call: Callable[[EntryArguments], Any]


def find(module: types.ModuleType, name: str | None, written: str | None = None) -> Runnable:
    """Return what ``name`` means in a script, or without a name the only thing to run.

    Raises `InvalidError` that lists what there is, after ``written``: what names the script on the
    command line, by default the name of its file.
    """
    script = written or Path(module.__file__ or "").name
    apps = {key: value for key, value in vars(module).items() if isinstance(value, App)}
    chosen = list({id(app): app for app in apps.values()}.values())
    wanted = name
    if wanted and wanted.partition(".")[0] in apps:
        first, _, wanted = wanted.partition(".")
        chosen = [apps[first]]
    found = _candidates(module, chosen)
    if not wanted:
        return _only(module, script, found, [key for app in chosen for key in app.entrypoints])
    make = found.get(wanted)
    methods = [key for key in found if key.startswith(f"{wanted}.")]
    if make is None and len(methods) == 1:
        make = found[methods[0]]
    if make is not None:
        return make()
    if methods:
        raise InvalidError(_several(script, f"the class {wanted} has several methods", methods))
    there = (
        f"it has {', '.join(found)}. Fix: name one of these"
        if found
        else "it has none. Fix: put @app.local_entrypoint() above the function to run"
    )
    raise InvalidError(f"{script} has no entry point {name!r}; {there}")


def _candidates(module: types.ModuleType, apps: list[App]) -> dict[str, Callable[[], Runnable]]:
    """Return everything to run by its name, each as a function that prepares it."""
    found: dict[str, Callable[[], Runnable]] = {}

    def add(name: str, prepare: Callable[..., Runnable], *args: Any) -> None:
        found.setdefault(name, lambda: prepare(name, *args))

    for app in apps:
        for name, entrypoint in app.entrypoints.items():
            add(name, _entrypoint, entrypoint)
    variables = {id(value): key for key, value in vars(module).items()}
    for app in apps:
        for name, function in app.registered_functions.items():
            add(name, _function, function)
        for name, cls in app.registered_classes.items():
            for method in cls._spec.methods:
                add(f"{name}.{method}", _method, cls, method)
    for value in list(vars(module).values()):
        # by the variable, where the app knows it by another name
        if isinstance(value, Function) and _is_of(value, apps):
            add(variables[id(value)], _function, value)
    return found


def _is_of(function: Function, apps: list[App]) -> bool:
    plain = function.local
    return any(one.local is plain for app in apps for one in app.registered_functions.values())


def _only(
    module: types.ModuleType,
    script: str,
    found: dict[str, Callable[[], Runnable]],
    entrypoints: list[str],
) -> Runnable:
    """Return the only entry point, or without one the only function or method."""
    names = entrypoints or list(found)
    if len(names) == 1:
        return found[names[0]]()
    if not names:
        block = ""
        if has_main_block(module):
            block = f' (python {script} runs its `if __name__ == "__main__"` block)'
        raise InvalidError(
            f"{script} has no entry point{block}. "
            "Fix: put @app.local_entrypoint() above the function to run"
        )
    kind = "entry points" if entrypoints else "functions and no entry point"
    raise InvalidError(_several(script, f"{script} has several {kind}", names))


def _several(script: str, what: str, names: list[str]) -> str:
    return f"{what}. Fix: name one of " + ", ".join(f"{script}::{one}" for one in names)


# --- kinds ---------------------------------------------------------------------------------------


def _entrypoint(name: str, function: Callable[..., Any]) -> Runnable:
    def call(arguments: EntryArguments) -> Any:
        return _call(function, arguments.args, arguments.kwargs)

    return Runnable(name, tuple(parameters_of(function)), inspect.getdoc(function), call)


def _function(name: str, function: Function) -> Runnable:
    _check(name, function._method)
    plain = function.local

    def call(arguments: EntryArguments) -> Any:
        return function.remote(*arguments.args, **arguments.kwargs)

    return Runnable(name, tuple(parameters_of(plain)), inspect.getdoc(plain), call)


def _method(name: str, cls: Cls, method: str) -> Runnable:
    spec = cls._spec
    called = spec.methods[method]
    _check(name, called)
    constructor = _constructor(cls)
    own = {one.parameter.name for one in constructor}
    space = _globals_of(getattr(spec.cls, method))
    parameters = [EntryParameter(one, space) for one in called.signature.parameters.values()]

    def call(arguments: EntryArguments) -> Any:
        kwargs = arguments.kwargs
        instance = cls(**{key: value for key, value in kwargs.items() if key in own})
        rest = {key: value for key, value in kwargs.items() if key not in own}
        return getattr(instance, method).remote(*arguments.args, **rest)

    return Runnable(name, (*constructor, *parameters), called.doc, call)


def _constructor(cls: Cls) -> list[EntryParameter]:
    """Return the parameters of a class's constructor, with the annotations of its fields."""
    spec = cls._spec
    plain: Any = spec.cls
    space = _globals_of(plain.__init__) or vars(_module_of(plain))
    given = spec.constructor.signature.parameters.values()
    if not spec.constructor.uses_parameters:
        return [EntryParameter(one, space) for one in given]
    space = vars(_module_of(plain))
    types_of = {
        name: value
        for owner in reversed(plain.__mro__)
        for name, value in inspect.get_annotations(owner).items()
    }
    return [EntryParameter(one.replace(annotation=types_of[one.name]), space) for one in given]


def _globals_of(function: Any) -> dict[str, Any]:
    return getattr(inspect.unwrap(function), "__globals__", {})


def _module_of(cls: type) -> Any:
    import sys

    return sys.modules.get(cls.__module__, types)


def _check(name: str, method: Any) -> None:
    """Raise `InvalidError` for what has no single value to return."""
    spec = getattr(method, "_spec", method)
    if spec.web is not None:
        raise InvalidError(
            f"{name} answers HTTP, and is not called. Fix: lifecycle-magic serve script.py"
        )
    if spec.is_generator:
        raise InvalidError(
            f"{name} yields its values, so there is nothing to return. "
            "Fix: iterate over .remote_gen(...) in a function with @app.local_entrypoint()"
        )


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call an entry point, sync or async, with arguments from the command line."""
    value = function(*args, **kwargs)
    if inspect.iscoroutine(value):
        return asyncio.run(value)
    return value
