"""Constructor arguments by `parameter`, for classes without ``__init__``; creation of instances.

This module travels into containers: the standard library and `lifecycle_magic.exception` only.
"""

from __future__ import annotations

from typing import Any, TypeVar

from lifecycle_magic.exception import InvalidError

__all__ = ["MISSING", "Parameter", "instantiate", "parameter", "parameters_of"]

T = TypeVar("T")


class _Missing:
    """The type of the marker for "no default"; the marker is one object, also after pickling."""

    def __repr__(self) -> str:
        return "<no default>"

    def __reduce__(self) -> str:
        return "MISSING"


MISSING = _Missing()


class Parameter:
    """A field declared with `parameter`; it reads as its default if an instance has no own value.

    It has no ``__set__``, so that a value stored on the instance takes precedence.
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
    """Declare a constructor argument, like a dataclass field; callers give it by keyword.

    ``default`` is used when the caller gives none. ``init=False`` excludes the field from the
    constructor: an ``@enter`` method sets it, and it needs no default. Raises `InvalidError` for a
    mutable default, which all instances would share.

    >>> class Model:
    ...     size: str = parameter(default="small")
    """
    if isinstance(default, (list, dict, set, bytearray)):
        raise InvalidError(
            f"parameter(default={default!r}): every instance would share that "
            f"{type(default).__name__}. Fix: use a tuple, or set it in an @enter method"
        )
    return Parameter(default, init)


def parameters_of(cls: type) -> dict[str, Parameter]:
    """Return the `parameter` fields of a class: base class first, then in the order they are
    written.
    """
    found: dict[str, Any] = {}
    for owner in reversed(cls.__mro__):
        for name, value in vars(owner).items():
            if name in found or isinstance(value, Parameter):
                found[name] = value
    return {name: value for name, value in found.items() if isinstance(value, Parameter)}


def instantiate(cls: type[T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    """Create an instance as a caller described it: by ``__init__``, or by its `parameter` fields.

    Used by the worker in a container and by ``.local()``; the arguments were checked before.
    """
    if not parameters_of(cls):
        return cls(*args, **kwargs)
    if getattr(cls.__init__, "__name__", "") == "init_parameters":  # of `guest.own_methods`
        return cls(**kwargs)
    instance = cls()
    for name, value in kwargs.items():
        setattr(instance, name, value)
    return instance
