"""Checks of an entire class, which need more than one function.

Each raises one `InvalidError` that names the class, the attribute and the fix.
"""

from __future__ import annotations

import enum
import functools
import inspect
from types import FunctionType
from typing import Any

from lifecycle_magic.decorators.classes import is_class
from lifecycle_magic.decorators.marks import OLD_FORMS, has_marks, hidden_in, marks_of, old_form
from lifecycle_magic.decorators.parameters import MISSING, parameters_of
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.fingerprint.origin import is_installed

__all__ = [
    "annotation_of",
    "check_class",
    "check_hidden_marks",
    "check_parameters",
    "check_type",
    "hides_marks",
]

# The types that are checked, by name, because annotations may be strings.
_CHECKED: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "bytes": (bytes,),
}


def check_class(cls: Any) -> None:
    """Raise `InvalidError` for what is no class, has hooks in an old form, or can have no
    instance.
    """
    if isinstance(cls, FunctionType):
        raise InvalidError(f"{cls.__name__} is a function. Fix: use @app.function() for it")
    if not is_class(cls):
        raise InvalidError(
            f"@app.cls goes above a class, not above a {type(cls).__name__}. "
            "Fix: put @app.cls() right above the class"
        )
    for owner in cls.__mro__[:-1]:
        if owner is cls or has_marks(owner):
            for name in OLD_FORMS:
                if name in vars(owner):
                    raise InvalidError(old_form(f"{owner.__name__}.{name}", name))
    if issubclass(cls, enum.Enum):
        raise InvalidError(
            f"{cls.__name__} is an Enum, which has no instance to run. "
            "Fix: put the hooks and methods in a class that is no Enum"
        )
    abstract = sorted(getattr(cls, "__abstractmethods__", ()))
    if abstract:
        raise InvalidError(
            f"{cls.__name__} is abstract ({', '.join(abstract)}), so it can have no instance. "
            "Fix: decorate a class that defines these"
        )


def check_hidden_marks(cls: type) -> None:
    """Raise `InvalidError` for a hook or method whose mark is hidden below another decorator."""
    for owner in cls.__mro__[:-1]:
        if is_installed(owner.__module__):
            continue
        for name, value in vars(owner).items():
            hidden = hidden_in(value, name)
            if hidden is not None:
                raise InvalidError(_hidden(f"{cls.__name__}.{name}", value, hidden))


def hides_marks(cls: type) -> bool:
    """Return whether `check_hidden_marks` refuses the class."""
    return any(
        hidden_in(value, name) is not None
        for owner in cls.__mro__[:-1]
        if not is_installed(owner.__module__)
        for name, value in vars(owner).items()
    )


def _hidden(where: str, value: object, hidden: FunctionType) -> str:
    """Return the message about a mark on ``hidden`` that ``value`` hides."""
    marks = marks_of(hidden)
    mark = " and ".join(marks.names()) if marks else ""
    kind = type(value).__name__
    if isinstance(value, (staticmethod, classmethod)):
        return (
            f"{where}: {mark} below @{kind}, but it runs on the instance of its container. "
            f"Fix: remove @{kind} and take self"
        )
    if isinstance(value, (property, functools.cached_property)):
        return (
            f"{where}: {mark} below @{kind}, which is read and not called. "
            f"Fix: remove @{kind} and call {where.replace('.', '().')}.remote()"
        )
    decorator = str(getattr(value, "__qualname__", kind)).partition(".<locals>")[0]
    return (
        f"{where}: {decorator} above {mark} hides it, because it does not use functools.wraps. "
        f"Fix: put {mark} above @{decorator}, or @functools.wraps(fn) above the function that "
        f"{decorator} returns"
    )


def check_parameters(cls: type) -> None:
    """Raise `InvalidError` for `parameter` fields without a type or with ``__init__``."""
    fields = parameters_of(cls)
    if not fields:
        return
    for owner in cls.__mro__[:-1]:
        if "__init__" in vars(owner) and not is_installed(owner.__module__):
            raise InvalidError(
                f"{cls.__name__}: {owner.__name__}.__init__ and parameter() exclude each other. "
                "Fix: declare all arguments as parameter() fields, and work in an @enter method"
            )
    if cls.__dictoffset__ == 0:
        raise InvalidError(
            f"{cls.__name__}: __slots__ has no place for parameter() fields. Fix: remove __slots__"
        )
    for name, parameter in fields.items():
        if parameter.default is not MISSING:
            check_type(cls.__name__, name, parameter.default, annotation_of(cls, name))
        else:
            annotation_of(cls, name)


def annotation_of(cls: type, name: str) -> str:
    """Return the annotation of a field as a string; raises `InvalidError` if it has none."""
    for owner in cls.__mro__[:-1]:
        found = inspect.get_annotations(owner).get(name)
        if found is not None:
            return found.__name__ if is_class(found) else str(found).strip("'\" ")
    raise InvalidError(
        f"{cls.__name__}.{name}: a parameter() needs a type. "
        f"Fix: write {name}: str = parameter(...)"
    )


def check_type(cls: str, name: str, value: Any, annotation: str) -> Any:
    """Return the value, or raise `InvalidError`; an int becomes a float if a float is required."""
    wanted = _CHECKED.get(annotation)
    if wanted is None:
        return value
    wrong = not isinstance(value, wanted) or (isinstance(value, bool) and annotation != "bool")
    if wrong:
        raise InvalidError(
            f"{cls}.{name} must be {annotation}, not {value!r} ({type(value).__name__}). "
            f"Fix: pass {annotation}, or change the annotation"
        )
    return float(value) if annotation == "float" else value
