"""Reading of a decorated class, or of a plain function, into a `ClassSpec`.

`read_class` finds hooks and methods, puts them in order, and refuses what can't work;
`read_function` does the same for a plain function. Both are pure: they run and change no code of
the user's.

The order of hooks: a name marked in the class or one of its bases is a *slot*. Slots run base class
first, then as written. An override takes the slot of what it overrides, decorated or not, and
``load = None`` empties it.
"""

from __future__ import annotations

import inspect
from types import FunctionType, MappingProxyType
from typing import Any

from lifecycle_magic.decorators.classes import is_class, unbound
from lifecycle_magic.decorators.marks import (
    ATTRIBUTE,
    ConcurrentMarks,
    Marks,
    MethodMarks,
    check_marked,
    function_of,
    marks_of,
)
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.spec.class_checks import check_class, check_hidden_marks, check_parameters
from lifecycle_magic.spec.class_spec import CALL, RESERVED, ClassSpec, MethodSpec, refuse_keep
from lifecycle_magic.spec.constructor import signature_without_self
from lifecycle_magic.spec.options import Options

__all__ = ["read_class", "read_function"]


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
        isinstance(unbound(value), FunctionType) and not name.startswith("__")
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
        raise InvalidError(
            f"@app.function goes above a def, not above a {type(fn).__name__}. "
            "Fix: put @app.function() right above the def, or @app.cls() above a class"
        )
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
    refuse_keep(name or fn.__name__, options or Options())
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
