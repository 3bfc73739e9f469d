"""The records that the decorators set on a function, and the checks of a single function.

A mark is a frozen record under ``__lifecycle__``; the function stays a plain function. The checks
here need only that one function, so they run at the decorator's own line. They read code objects
instead of using `inspect`, which would add 10 ms to a container's start.

This module travels into containers: the standard library and `lifecycle_magic.exception` only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import FunctionType
from typing import Any, NamedTuple, NoReturn

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.exception import InvalidError

__all__ = [
    "ATTRIBUTE",
    "OLD_FORMS",
    "BatchMarks",
    "BuildMarks",
    "ConcurrentMarks",
    "Marks",
    "MethodMarks",
    "WebMarks",
    "check_marked",
    "check_target",
    "function_of",
    "has_marks",
    "hidden_in",
    "marks_of",
    "old_form",
    "where_of",
]

ATTRIBUTE = "__lifecycle__"

# Code flags as in the data model: https://docs.python.org/3/reference/datamodel.html#code-objects
_VARARGS, _GENERATOR, _ASYNC_GENERATOR = 0x04, 0x20, 0x200

# Former names of hooks: the hook that each became, and whether it was async.
OLD_FORMS = {
    "__enter__": ("enter", False),
    "__exit__": ("exit", False),
    "__aenter__": ("enter", True),
    "__aexit__": ("exit", True),
    "__build__": ("build", False),
}


class BuildMarks(NamedTuple):
    """The options of ``@build``: whether to run again without a change; the time limit in
    seconds.
    """

    force: bool = False
    timeout: float | None = None


class MethodMarks(NamedTuple):
    """The options of ``@method``: whether it yields; None means that the function itself
    decides.
    """

    is_generator: bool | None = None


class ConcurrentMarks(NamedTuple):
    """The options of ``@concurrent``: the inputs of one container at once, and the number to aim
    for.
    """

    max_inputs: int
    target_inputs: int | None = None


class BatchMarks(NamedTuple):
    """The options of ``@batched``: the size of a batch, and how long its first input waits,
    in ms.
    """

    max_batch_size: int
    wait_ms: int


class WebMarks(NamedTuple):
    """The options of a method that answers HTTP: ``kind`` is the decorator's name.

    ``method`` and ``docs`` are for ``fastapi_endpoint``, ``port`` and ``startup_timeout`` (seconds)
    for ``web_server``, and ``by_enter`` if ``enter`` starts its server. The kernel uses the others,
    not the container.
    """

    kind: str
    method: str = "GET"
    docs: bool = False
    port: int = 0
    startup_timeout: float = 5.0
    label: str | None = None
    requires_proxy_auth: bool = False
    cors: tuple[str, ...] = ()
    by_enter: bool = False

    @property
    def is_factory(self) -> bool:
        """Return whether the method runs once, after ``enter``, and creates the application."""
        return self.kind != "fastapi_endpoint"


class Marks(NamedTuple):
    """All that lifecycle decorators set on one function (or class)."""

    enter: bool = False
    exit: bool = False
    build: BuildMarks | None = None
    method: MethodMarks | None = None
    concurrent: ConcurrentMarks | None = None
    batched: BatchMarks | None = None
    web: WebMarks | None = None
    snap: bool = False  # of enter: before those without

    @property
    def is_hook(self) -> bool:
        """Return whether it runs by itself at a point of the container's life."""
        return self.enter or self.exit or self.build is not None

    @property
    def is_method(self) -> bool:
        """Return whether callers reach it; ``@batched`` makes a method by itself, as in Modal."""
        return self.method is not None or self.batched is not None or self.web is not None

    def names(self) -> tuple[str, ...]:
        """Return the decorators that were used, for messages: ``("@build", "@enter")``."""
        order = ("build", "enter", "exit", "method", "concurrent", "batched")
        used = [f"@{name}" for name in order if getattr(self, name)]
        return (*used, f"@{self.web.kind}") if self.web else tuple(used)


def marks_of(value: object) -> Marks | None:
    """Return the marks of a function, or of its wrapper (a staticmethod, a ``functools.wraps``)."""
    try:
        found = getattr(value, ATTRIBUTE, None)
    except Exception:  # a user's __getattr__
        return None
    return found if isinstance(found, Marks) else None


def function_of(value: object) -> FunctionType | None:
    """Return the function that a method is: itself, or what ``functools.lru_cache`` wraps, for
    example.

    Returns None for what can't be looked up on an instance as a method is.
    """
    while not isinstance(value, FunctionType):
        inner = _attribute(value, "__wrapped__")
        if inner is None or not callable(value) or not hasattr(type(value), "__get__"):
            return None
        if is_class(value) or isinstance(value, (staticmethod, classmethod)):
            return None
        value = inner
    return value


def hidden_in(value: object, name: str, depth: int = 3) -> FunctionType | None:
    """Return the marked function that the attribute ``name`` of a class wraps and hides.

    A staticmethod, a property, or a decorator without ``functools.wraps`` hides the marks.
    """
    if marks_of(value) is not None or is_class(value) or not depth:
        return None
    for inner in _wrapped_by(value):
        if isinstance(inner, FunctionType) and inner.__name__ == name and marks_of(inner):
            return inner
        found = hidden_in(inner, name, depth - 1) if _may_wrap(inner) else None
        if found is not None:
            return found
    return None


def _wrapped_by(value: object) -> Iterator[object]:
    if isinstance(value, property):
        yield value.fget
    for attribute in ("__func__", "func", "__wrapped__"):
        found = _attribute(value, attribute)
        if found is not None:
            yield found
    if isinstance(value, FunctionType):
        for cell in value.__closure__ or ():
            with contextlib.suppress(ValueError):  # not assigned yet
                yield cell.cell_contents
    elif not isinstance(value, (staticmethod, classmethod, property)):
        yield from _own_attributes(value).values()


def _own_attributes(value: object) -> dict[str, object]:
    """Return an object's ``__dict__`` without running code of its class."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return found if isinstance(found, dict) else {}


def _may_wrap(value: object) -> bool:
    return isinstance(value, (FunctionType, staticmethod, classmethod, property))


def _attribute(value: object, name: str) -> object:
    """Return an attribute of a wrapper; None if there is none, or if the look-up fails."""
    try:
        return getattr(value, name, None)
    except Exception:  # a user's __getattr__
        return None


def has_marks(cls: type) -> bool:
    """Return whether a class, or a base of it, has lifecycle decorators."""
    return any(
        isinstance(value, Marks) or (not is_class(value) and marks_of(value) is not None)
        for owner in cls.__mro__[:-1]
        for value in vars(owner).values()
    )


# -- what can't be marked ---------------------------------------------------------------------


def check_target(name: str, target: Any, *, classes: bool) -> None:
    """Raise `InvalidError` unless ``target`` is a function (or a class, if ``classes``)."""
    if isinstance(target, FunctionType):
        if target.__name__ == "<lambda>":
            raise InvalidError(
                f"@{name} got a lambda ({where_of(target)}): a hook or method needs a name. Fix:\n"
                f"    @{name}()\n    def load(self): ..."
            )
        return
    if is_class(target):
        if classes:
            return
        inside = f"inside {target.__qualname__}" if name != "method" else "to its methods"
        raise InvalidError(
            f"@{name} belongs on a method, not on the class {target.__qualname__}. "
            f"Fix: put it {inside}, above a def"
        )
    if isinstance(target, (staticmethod, classmethod)):
        inner = target.__func__
        raise InvalidError(
            f"{where_of(inner)}: @{name} on a {type(target).__name__}, but it runs on the instance "
            f"of its container. Fix: remove @{type(target).__name__} and take self"
        )
    if isinstance(target, property):
        where = where_of(target.fget) if target.fget else "a property"
        raise InvalidError(
            f"{where}: @{name} on a property, which is read and not called. Fix: remove @property"
        )
    if function_of(target) is not None:
        return
    what = getattr(target, "__qualname__", None) or type(target).__qualname__
    raise InvalidError(
        f"@{name} got {what}, which is no function written with def. "
        f"Fix: put @{name} right above the def, below other decorators"
    )


def check_marked(fn: FunctionType, marks: Marks, where: str) -> None:
    """Raise `InvalidError` unless ``fn`` can have these ``marks``; ``where`` is its name.

    Also used for an override without decorators, which inherits the marks of what it overrides.
    """
    if fn.__name__ in OLD_FORMS:
        raise InvalidError(old_form(where, fn.__name__))
    if fn.__name__.startswith("__") and fn.__name__.endswith("__"):
        raise InvalidError(
            f"{where}: {' and '.join(marks.names())} on {fn.__name__}, which Python itself calls. "
            "Fix: put it on a method with a name of its own"
        )
    if marks.is_hook:
        _check_hook(fn, _hook_of(marks), where)
    if marks.is_hook and marks.is_method:
        used = " and ".join(marks.names())
        raise InvalidError(
            f"{where}: {used} exclude each other: a hook runs by itself, a method when it is "
            "called. Fix: write a @method that calls the shared code"
        )
    if marks.exit and (marks.enter or marks.build):
        raise InvalidError(
            f"{where}: {' and '.join(marks.names())} exclude each other: one runs when the "
            "container starts, the other when it stops. Fix: write two methods"
        )
    if marks.is_hook and marks.concurrent:
        raise InvalidError(
            f"{where}: @concurrent on a hook, which runs once. Fix: put it on a @method or class"
        )
    if marks.batched and (_flags(fn) & (_GENERATOR | _ASYNC_GENERATOR)):
        raise InvalidError(
            f"{where}: @batched on a generator. Fix: return a list with one result per input"
        )
    if marks.web:
        _check_web(fn, marks, marks.web, where)
    if marks.batched and marks.method and marks.method.is_generator:
        raise InvalidError(f"{where}: @batched and is_generator=True exclude each other")


def old_form(where: str, name: str) -> str:
    """Return the message about a hook in a form that Modal once had."""
    hook, is_async = OLD_FORMS[name]
    plain = {"enter": "load", "exit": "close", "build": "download"}[hook]
    prefix = "async def" if is_async else "def"
    return (
        f"{where}: {name} is no hook of a lifecycle class. Fix:\n"
        f"    @{hook}()\n    {prefix} {plain}(self): ..."
    )


def _check_hook(fn: FunctionType, name: str, where: str) -> None:
    code = fn.__code__
    if _flags(fn) & (_GENERATOR | _ASYNC_GENERATOR):
        raise InvalidError(
            f"{where}: @{name} on a generator (it has a yield): a hook runs to its end. "
            "Fix: set up in an @enter method and clean up in an @exit method"
        )
    positional = code.co_varnames[: code.co_argcount]
    beyond = positional[1:]
    if name == "exit" and any(_is_exception_name(arg) for arg in beyond):
        _refuse_exit_arguments(fn, where, beyond)
    if not positional and not code.co_flags & _VARARGS:  # no *args either
        raise InvalidError(f"{where}: @{name} needs self. Fix: write def {fn.__name__}(self)")
    required = _required(fn, 1)
    if not required:
        return
    if name == "exit":
        _refuse_exit_arguments(fn, where, required)
    raise InvalidError(
        f"{where}: @{name} hooks are called with self alone, but this one needs "
        f"{', '.join(required)}. Fix: use parameter() fields or __init__, or give defaults"
    )


def _required(fn: FunctionType, given: int) -> tuple[str, ...]:
    """Return the parameters that need an argument, beyond the first ``given`` ones."""
    code = fn.__code__
    beyond = code.co_varnames[given : code.co_argcount]
    required = beyond[: max(0, len(beyond) - len(fn.__defaults__ or ()))]
    keywords = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    return required + tuple(k for k in keywords if k not in (fn.__kwdefaults__ or {}))


def _refuse_exit_arguments(fn: FunctionType, where: str, names: tuple[str, ...]) -> NoReturn:
    raise InvalidError(
        f"{where}: @exit hooks no longer take arguments ({', '.join(names)}). Fix:\n"
        f"    @exit()\n    def {fn.__name__}(self): ..."
    )


def _check_web(fn: FunctionType, marks: Marks, web: WebMarks, where: str) -> None:
    if marks.method or marks.batched:
        other = "method" if marks.method else "batched"
        raise InvalidError(
            f"{where}: @{other} and @{web.kind} exclude each other: one is called with .remote(), "
            "the other over HTTP. Fix: write two methods that share the code"
        )
    if web.is_factory:
        required = _required(fn, 1 if "." in where_of(fn) else 0)
        if required:
            raise InvalidError(
                f"{where}: a @{web.kind} runs once, before any request, but this one needs "
                f"{', '.join(required)}. Fix: handle requests in what it returns or starts"
            )
    if _flags(fn) & (_GENERATOR | _ASYNC_GENERATOR):
        raise InvalidError(
            f"{where}: @{web.kind} on a generator. Fix: return "
            "fastapi.responses.StreamingResponse(items()) to stream the answer"
        )


def _is_exception_name(name: str) -> bool:
    return name.startswith("exc") or name in ("traceback", "tb", "etype", "evalue")


def _hook_of(marks: Marks) -> str:
    return "exit" if marks.exit else "enter" if marks.enter else "build"


def _flags(fn: FunctionType) -> int:
    return fn.__code__.co_flags


def where_of(fn: Any) -> str:
    """Return ``Model.load``, without the ``<locals>`` of the function in which the class is
    written.
    """
    return str(getattr(fn, "__qualname__", fn)).rpartition("<locals>.")[2]
