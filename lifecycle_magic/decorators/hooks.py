"""The decorators of hooks and methods of a lifecycle class.

A decorator does not wrap the function it gets: it sets a frozen `Marks` record on the function and
returns it. So a decorated class stays a plain class that cloudpickle sends as it is, that a
debugger steps through, and that a test can call.

Mistakes that one function alone shows are refused here, at its own line. Mistakes that only the
entire class shows are refused in `lifecycle_magic.spec.reading`.

This module travels into containers: the standard library and `lifecycle_magic.exception` only.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.decorators.direct_call import DirectCall
from lifecycle_magic.decorators.marks import (
    ATTRIBUTE,
    BatchMarks,
    BuildMarks,
    ConcurrentMarks,
    Marks,
    MethodMarks,
    check_marked,
    check_target,
    function_of,
    marks_of,
    where_of,
)
from lifecycle_magic.exception import InvalidError

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Concatenate

    from typing_extensions import ParamSpec

    from lifecycle_magic.handles.static_types import (
        AsyncMethodAttribute,
        MethodAttribute,
        MethodDecorator,
    )

    P = ParamSpec("P")
    R = TypeVar("R")

__all__ = ["batched", "build", "concurrent", "enter", "exit", "method"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


@overload
def enter(fn: F, /) -> F: ...
@overload
def enter(*, snap: bool = False) -> Callable[[F], F]: ...
def enter(fn: Any = None, /, *, snap: bool = False, **unknown: object) -> Any:
    """Run this method once in each new container, before its first call.

    The method may be ``async def``. Several ``enter`` methods run base class first, then in the
    order they are written; those with ``snap=True``, which Modal keeps in a snapshot of memory, run
    before all others. Raises `InvalidError` if the method takes more than ``self``, yields, or
    is no plain function.

    >>> class Model:
    ...     @enter()
    ...     def load(self): self.model = 42
    """
    if "checkpoint" in unknown:
        from lifecycle_magic.modal_api.table import old_spelling  # not in a plain declaration

        old_spelling("enter", "checkpoint=")
        snap = bool(unknown.pop("checkpoint"))
    refuse_options("enter", unknown, "snap")
    return decorate("enter", fn, lambda target: mark(target, enter=True, snap=bool(snap)))


@overload
def exit(fn: F, /) -> F: ...
@overload
def exit() -> Callable[[F], F]: ...
def exit(fn: Any = None, /, **unknown: object) -> Any:
    """Run this method once when its container stops, after the running calls ended.

    All ``exit`` methods together have the class's ``exit_grace`` (30 s). Raises `InvalidError` if
    the method takes more than ``self``, as the old form with exception arguments does.

    >>> class Model:
    ...     @exit()
    ...     def close(self): print("bye")
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
    """Run this method once while the class's image is built, and keep the files it writes.

    ``force`` runs it at every build; ``timeout`` is in seconds (None: no limit). Attributes set on
    ``self`` are not kept: set those in an ``@enter`` method. Raises `InvalidError` for options that
    can't work.

    >>> class Model:
    ...     @build(timeout=600)
    ...     def download(self): ...
    """
    refuse_options("build", unknown, "force", "timeout")
    if timeout is not None and not is_positive(timeout):
        raise InvalidError(f"@build: timeout={timeout!r} must be a number of seconds above 0")
    marks = BuildMarks(bool(force), timeout)
    return decorate("build", fn, lambda target: mark(target, build=marks))


@overload
def method(  # type: ignore[overload-overlap] # a coroutine function is the special case
    fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]], /
) -> AsyncMethodAttribute[P]: ...
@overload
def method(fn: Callable[Concatenate[Any, P], R], /) -> MethodAttribute[P, R]: ...
@overload
def method(*, is_generator: bool | None = None) -> MethodDecorator: ...
def method(fn: Any = None, /, *, is_generator: bool | None = None, **unknown: object) -> Any:
    """Make this method callable from outside: ``Model().predict.remote(x)``.

    ``is_generator`` is needed only for a plain function that returns a generator.

    >>> class Model:
    ...     @method()
    ...     def predict(self, x): return x + 1
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
    """Let one container process up to ``max_inputs`` calls at once.

    On a class it applies to all its methods, on a method to that one. ``async def`` methods share
    the container's event loop; each call of another method gets a thread. ``target_inputs`` is the
    number that scaling aims for, at most ``max_inputs``; alone it is both. Raises `InvalidError`
    for numbers that can't work.

    >>> @concurrent(max_inputs=10)
    ... class Model: ...
    """
    refuse_options("concurrent", unknown, "max_inputs", "target_inputs")
    marks = concurrent_marks("@concurrent", max_inputs, target_inputs)

    def apply(target: Any) -> Any:
        if is_class(target):
            setattr(target, ATTRIBUTE, Marks()._replace(concurrent=marks))
            return target
        return mark(target, concurrent=marks)

    return decorate("concurrent", fn, apply, classes=True)


@overload
def batched(fn: Callable[..., Any], /) -> Any: ...
@overload
def batched(
    *, max_batch_size: int | None = None, wait_ms: int | None = None, **unknown: object
) -> Callable[[Callable[..., Any]], Any]: ...
def batched(
    fn: Any = None,
    /,
    *,
    max_batch_size: int | None = None,
    wait_ms: int | None = None,
    **unknown: object,
) -> Any:
    """Gather single calls into one call that gets lists and returns a list of the same length.

    A batch runs when it has ``max_batch_size`` inputs, or ``wait_ms`` milliseconds after its first
    input. ``@batched`` replaces ``@method``. Raises `InvalidError` if an option is missing or can't
    work.

    >>> class Model:
    ...     @batched(max_batch_size=8, wait_ms=100)
    ...     def predict(self, xs): return [x + 1 for x in xs]
    """
    refuse_options("batched", unknown, "max_batch_size", "wait_ms")
    marks = batch_marks("@batched", max_batch_size, wait_ms)
    return decorate("batched", fn, lambda target: mark(target, batched=marks))


def concurrent_marks(
    where: str, max_inputs: int | None, target_inputs: int | None
) -> ConcurrentMarks:
    """Return the options of ``@concurrent``, checked; ``where`` names them in an `InvalidError`."""
    if max_inputs is None:
        max_inputs = target_inputs
    if max_inputs is None:
        raise InvalidError(f"{where} needs max_inputs. Fix: write {where}(max_inputs=10)")
    check_count(where, "max_inputs", max_inputs)
    if target_inputs is not None:
        check_count(where, "target_inputs", target_inputs)
        if target_inputs > max_inputs:
            raise InvalidError(
                f"{where}: target_inputs={target_inputs} is above max_inputs={max_inputs}. "
                "Fix: lower it, or omit it"
            )
    return ConcurrentMarks(max_inputs, target_inputs)


def batch_marks(where: str, max_batch_size: int | None, wait_ms: int | None) -> BatchMarks:
    """Return the options of ``@batched``, checked; ``where`` names them in an `InvalidError`."""
    if max_batch_size is None or wait_ms is None:
        missing = "max_batch_size" if max_batch_size is None else "wait_ms"
        raise InvalidError(
            f"{where} needs {missing}. Fix: write {where}(max_batch_size=8, wait_ms=100)"
        )
    check_count(where, "max_batch_size", max_batch_size)
    check_count(where, "wait_ms", wait_ms, least=0)
    return BatchMarks(max_batch_size, wait_ms)


def decorate(name: str, fn: Any, apply: Callable[[Any], Any], *, classes: bool = False) -> Any:
    """Return ``fn`` after ``apply``, or the decorator that does this if ``fn`` is None.

    ``fn`` is None if ``@name`` is written with parentheses.
    """

    def decorator(target: Any) -> Any:
        check_target(name, target, classes=classes)
        return apply(target)

    return decorator if fn is None else decorator(fn)


def mark(fn: FunctionType, **more: Any) -> FunctionType:
    """Set further marks on ``fn``; raises `InvalidError` if they exclude those it has."""
    marks = (marks_of(fn) or Marks())._replace(**more)
    check_marked(function_of(fn) or fn, marks, where_of(fn))
    setattr(fn, ATTRIBUTE, marks)
    if marks.is_method:
        refusal = NoContainers(where_of(fn))
        for form in CALL_FORMS:
            setattr(fn, form, refusal)
        fn.local = DirectCall(where_of(fn))  # type: ignore[attr-defined]
    return fn


CALL_FORMS = ("remote", "remote_gen", "map", "starmap", "for_each", "spawn", "spawn_map")


class NoContainers:
    """The value of ``.remote`` and the like of a method that is looked up on a plain instance."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise InvalidError(self._message())

    @property
    def aio(self) -> Any:
        """Return the same refusal for coroutines."""
        return self

    def _message(self) -> str:
        cls = self._where.rpartition(".")[0]
        if not cls:  # a copy of the class, which does not know its name
            return (
                f"{self._where} is one of a plain class here, which has no containers: its handle "
                "came from a file or another process. Fix: declare the class here, or write "
                "lm.Cls.from_name(app, name) for a class that another session serves"
            )
        return (
            f"{self._where}: {cls} is a plain class here, which has no containers. "
            "Fix: write %%lifecycle_cls in the first line of its cell, or @app.cls() above it"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return NoContainers, ("this method",)  # the same code under another class name is equal


def refuse_options(name: str, unknown: dict[str, object], *known: str) -> None:
    """Raise `InvalidError` if there are ``unknown`` options; those of Modal's that do nothing are
    named in a notice.
    """
    if not unknown:
        return
    from lifecycle_magic.modal_api.table import check_keywords  # not in a plain declaration

    check_keywords(f"@{name}", unknown, known)


def check_count(name: str, option: str, value: object, least: int = 1) -> None:
    """Raise `InvalidError` unless ``value`` is an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidError(f"{name}: {option}={value!r} must be a whole number from {least} up")


def is_positive(value: object) -> bool:
    """Return whether ``value`` is a number above 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
