"""What a class as a whole may not be: the checks that take more than one function to see.

Each raises one `InvalidError` that names the class, the attribute and the mend.
"""

from __future__ import annotations

import enum
import inspect
from types import FunctionType
from typing import Any

from lifecycle_magic import hooks
from lifecycle_magic.digests.origin import is_installed
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.marks import OLD_FORMS, has_marks, old_form

__all__ = ["annotation_of", "check_class", "check_parameters", "check_type"]

# Types that are worth checking here: by name, as annotations may be texts.
_CHECKED: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "bytes": (bytes,),
}


def check_class(cls: Any) -> None:
    """Refuse what is no class, has hooks in an old form, or can have no instance."""
    if isinstance(cls, FunctionType):
        raise InvalidError(f"{cls.__name__} is a function: use @app.function() for it")
    if not isinstance(cls, type):
        raise InvalidError(f"@app.cls goes right above a class, not on a {type(cls).__name__}")
    for owner in cls.__mro__[:-1]:
        if owner is cls or has_marks(owner):
            for name in OLD_FORMS:
                if name in vars(owner):
                    raise InvalidError(old_form(f"{owner.__name__}.{name}", name))
    if issubclass(cls, enum.Enum):
        raise InvalidError(f"{cls.__name__} is an Enum, which has no instances of its own to run")
    abstract = sorted(getattr(cls, "__abstractmethods__", ()))
    if abstract:
        raise InvalidError(
            f"{cls.__name__} is abstract ({', '.join(abstract)}), so it can have no instance: "
            "decorate a class that defines these"
        )


def check_parameters(cls: type) -> None:
    """Refuse `hooks.parameter` fields without a type, beside ``__init__``, or never set."""
    fields = hooks.parameters_of(cls)
    if not fields:
        return
    for owner in cls.__mro__[:-1]:
        if "__init__" in vars(owner) and not is_installed(owner.__module__):
            raise InvalidError(
                f"{cls.__name__}: {owner.__name__}.__init__ and parameter() exclude each other: "
                "declare all arguments as parameter() fields and do the work in an @enter method"
            )
    if cls.__dictoffset__ == 0:
        raise InvalidError(
            f"{cls.__name__}: __slots__ leaves no room for parameter() fields: remove __slots__"
        )
    for name, parameter in fields.items():
        if parameter.default is not hooks.MISSING:
            check_type(cls.__name__, name, parameter.default, annotation_of(cls, name))
        elif not parameter.init:
            raise InvalidError(
                f"{cls.__name__}.{name}: parameter(init=False) needs a default: nobody can give it"
            )
        else:
            annotation_of(cls, name)


def annotation_of(cls: type, name: str) -> str:
    """The annotation of a field as text; raises `InvalidError` when it has none."""
    for owner in cls.__mro__[:-1]:
        found = inspect.get_annotations(owner).get(name)
        if found is not None:
            return found.__name__ if isinstance(found, type) else str(found).strip("'\" ")
    raise InvalidError(
        f"{cls.__name__}.{name}: a parameter() needs a type: write {name}: str = parameter(...)"
    )


def check_type(cls: str, name: str, value: Any, annotation: str) -> Any:
    """The value, or `InvalidError`; an int where a float is asked for becomes that float."""
    wanted = _CHECKED.get(annotation)
    if wanted is None:
        return value
    wrong = not isinstance(value, wanted) or (isinstance(value, bool) and annotation != "bool")
    if wrong:
        raise InvalidError(
            f"{cls}.{name} is {annotation}, but got {value!r} ({type(value).__name__})"
        )
    return float(value) if annotation == "float" else value
