"""The decorators of a lifecycle class, its parameters, and how an instance is made.

A decorator changes nothing about the function it gets: it hangs a frozen `Marks` on it and
hands it back. So a decorated class stays a plain class that cloudpickle sends as it is,
that a debugger steps through, and that a test can call.

What one function alone shows to be wrong is refused here, at its own line. What takes the whole
class to see is refused in `lifecycle_magic.spec`.

This module travels into containers: the standard library and `lifecycle_magic.exception` only.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar, overload

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.marks import (
    ATTRIBUTE,
    BatchMarks,
    BuildMarks,
    ConcurrentMarks,
    Marks,
    MethodMarks,
    check_marked,
    check_target,
    marks_of,
    where_of,
)

__all__ = [
    "MISSING",
    "Parameter",
    "batched",
    "build",
    "concurrent",
    "enter",
    "exit",
    "instantiate",
    "is_local",
    "method",
    "parameter",
    "parameters_of",
]

_remote = False  # the worker in a container sets it, before it loads the user's class

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def is_local() -> bool:
    """Whether this code runs where the user is, and not inside a container.

    >>> is_local()
    True
    """
    return not _remote


# -- the decorators ---------------------------------------------------------------------------


@overload
def enter(fn: F, /) -> F: ...
@overload
def enter() -> Callable[[F], F]: ...
def enter(fn: Any = None, /, **unknown: object) -> Any:
    """Run this method once in each new container, before its first input.

    Sync or ``async def``; several run base class first, then in the order they are written.
    Raises `InvalidError` when the method takes more than ``self``, yields, or is no plain
    function.

    >>> class Model:
    ...     @enter()
    ...     def load(self): self.model = 42
    """
    refuse_options("enter", unknown)
    return decorate("enter", fn, lambda target: mark(target, enter=True))


@overload
def exit(fn: F, /) -> F: ...
@overload
def exit() -> Callable[[F], F]: ...
def exit(fn: Any = None, /, **unknown: object) -> Any:
    """Run this method once when its container goes, after the running calls ended.

    It has the class's ``exit_grace`` (30 s) and takes only ``self``; raises `InvalidError` for
    anything else, as for the old form with exception arguments.
    """
    refuse_options("exit", unknown)
    return decorate("exit", fn, lambda target: mark(target, exit=True))


@overload
def build(fn: F, /) -> F: ...
@overload
def build(*, force: bool = False, timeout: float | None = None) -> Callable[[F], F]: ...
def build(
    fn: Any = None, /, *, force: bool = False, timeout: float | None = None, **unknown: object
) -> Any:
    """Run this method once while the class's image is built; the files it writes stay in it.

    ``force`` runs it at every build, ``timeout`` is in seconds (None: no limit). Attributes set
    on ``self`` do not outlive it: set those in an ``@enter`` method.
    """
    refuse_options("build", unknown, "force", "timeout")
    if timeout is not None and not is_positive(timeout):
        raise InvalidError(f"@build: timeout={timeout!r} must be a number of seconds above 0")
    marks = BuildMarks(bool(force), timeout)
    return decorate("build", fn, lambda target: mark(target, build=marks))


@overload
def method(fn: F, /) -> F: ...
@overload
def method(*, is_generator: bool | None = None) -> Callable[[F], F]: ...
def method(fn: Any = None, /, *, is_generator: bool | None = None, **unknown: object) -> Any:
    """Make this method callable from outside: ``Model().predict.remote(x)``.

    ``is_generator`` is needed only for a plain function that returns a generator.
    """
    refuse_options("method", unknown, "is_generator")
    marks = MethodMarks(is_generator)
    return decorate("method", fn, lambda target: mark(target, method=marks))


def concurrent(
    fn: Any = None,
    /,
    *,
    max_inputs: int | None = None,
    target_inputs: int | None = None,
    **unknown: object,
) -> Any:
    """Let one container work on up to ``max_inputs`` inputs at once.

    On a class it holds for all its methods, on a method for that one. ``async def`` methods
    share the container's event loop; sync ones get a thread each. ``target_inputs`` is the number
    that scaling aims for; at most ``max_inputs``.
    """
    refuse_options("concurrent", unknown, "max_inputs", "target_inputs")
    if max_inputs is None:
        raise InvalidError("@concurrent needs max_inputs: write @concurrent(max_inputs=10)")
    check_count("concurrent", "max_inputs", max_inputs)
    if target_inputs is not None:
        check_count("concurrent", "target_inputs", target_inputs)
        if target_inputs > max_inputs:
            raise InvalidError(
                f"@concurrent: target_inputs={target_inputs} is above max_inputs={max_inputs}; "
                "make it at most that, or leave it out"
            )
    marks = ConcurrentMarks(max_inputs, target_inputs)

    def apply(target: Any) -> Any:
        if isinstance(target, type):
            setattr(target, ATTRIBUTE, Marks()._replace(concurrent=marks))
            return target
        return mark(target, concurrent=marks)

    return decorate("concurrent", fn, apply, classes=True)


def batched(
    fn: Any = None,
    /,
    *,
    max_batch_size: int | None = None,
    wait_ms: int | None = None,
    **unknown: object,
) -> Any:
    """Gather single inputs into one call that gets lists and returns a list of the same length.

    A batch runs when it has ``max_batch_size`` inputs, or ``wait_ms`` milliseconds after its
    first one. It takes the place of ``@method``.
    """
    refuse_options("batched", unknown, "max_batch_size", "wait_ms")
    if max_batch_size is None or wait_ms is None:
        missing = "max_batch_size" if max_batch_size is None else "wait_ms"
        raise InvalidError(
            f"@batched needs {missing}: write @batched(max_batch_size=8, wait_ms=100)"
        )
    check_count("batched", "max_batch_size", max_batch_size)
    check_count("batched", "wait_ms", wait_ms, least=0)
    marks = BatchMarks(max_batch_size, wait_ms)
    return decorate("batched", fn, lambda target: mark(target, batched=marks))


def decorate(name: str, fn: Any, apply: Callable[[Any], Any], *, classes: bool = False) -> Any:
    """What ``@name`` is, with parentheses and without: ``apply`` on a function that can be marked.

    With parentheses ``fn`` is None and a decorator is due; without, ``fn`` is the function.
    """

    def decorator(target: Any) -> Any:
        check_target(name, target, classes=classes)
        return apply(target)

    return decorator if fn is None else decorator(fn)


def mark(fn: FunctionType, **more: Any) -> FunctionType:
    """Hang further marks on ``fn``; raises `InvalidError` if they exclude those it has."""
    marks = (marks_of(fn) or Marks())._replace(**more)
    check_marked(fn, marks, where_of(fn))
    setattr(fn, ATTRIBUTE, marks)
    return fn


def refuse_options(name: str, unknown: dict[str, object], *known: str) -> None:
    """Raise `InvalidError` that lists the ``known`` options if there are ``unknown`` ones."""
    if not unknown:
        return
    takes = ", ".join(known) if known else "no options"
    raise InvalidError(f"@{name} has no option {', '.join(unknown)}: it takes {takes}")


def check_count(name: str, option: str, value: object, least: int = 1) -> None:
    """Raise `InvalidError` unless ``value`` is a whole number from ``least`` up."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidError(f"@{name}: {option}={value!r} must be a whole number from {least} up")


def is_positive(value: object) -> bool:
    """Whether ``value`` is a number above 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


# -- parameters -------------------------------------------------------------------------------


class _Missing:
    """Stands for no default; one object, also after pickling."""

    def __repr__(self) -> str:
        return "<no default>"

    def __reduce__(self) -> str:
        return "MISSING"


MISSING = _Missing()


class Parameter:
    """A field declared with `parameter`; reads as its default where an instance has no own value.

    It has no ``__set__``, so what an instance stores is found before it.
    """

    def __init__(self, default: Any, init: bool) -> None:
        self.default = default
        self.init = init
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self
        if self.default is MISSING:
            raise AttributeError(f"parameter {self.name} of {type(instance).__name__} has no value")
        return self.default

    def __repr__(self) -> str:
        return f"parameter(default={self.default!r}, init={self.init})"


def parameter(*, default: Any = MISSING, init: bool = True) -> Any:
    """A constructor argument, declared like a dataclass field; given by keyword.

    ``default`` is used when the caller gives none. ``init=False`` keeps the field out of
    the constructor: the class sets it itself. Raises `InvalidError` for a default that
    instances would share and change.

    >>> class Model:
    ...     size: str = parameter(default="small")
    """
    if isinstance(default, (list, dict, set, bytearray)):
        raise InvalidError(
            f"parameter(default={default!r}): every instance would share that "
            f"{type(default).__name__}; use a tuple, or set it in an @enter method"
        )
    return Parameter(default, init)


def parameters_of(cls: type) -> dict[str, Parameter]:
    """The `parameter` fields of a class: base class first, then in the order they are written."""
    found: dict[str, Any] = {}
    for owner in reversed(cls.__mro__):
        for name, value in vars(owner).items():
            if name in found or isinstance(value, Parameter):
                found[name] = value
    return {name: value for name, value in found.items() if isinstance(value, Parameter)}


def instantiate(cls: type[T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    """Make an instance as a caller described it: by ``__init__``, or by its `parameter` fields.

    Used by the worker in a container and by ``.local()``; the arguments were checked before.
    """
    if not parameters_of(cls):
        return cls(*args, **kwargs)
    instance = cls()
    for name, value in kwargs.items():
        setattr(instance, name, value)
    return instance


def travel(plain: T) -> T:
    """What a handle unpickles as, wherever it arrives: the plain class or function behind it."""
    return plain
