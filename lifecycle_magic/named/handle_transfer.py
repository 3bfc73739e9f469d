"""Handles that cross between sessions, where they stand for a class by its name."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.named.handles import named_class, named_function

__all__ = ["handle_of_key", "make_instance", "reduce_by_name", "to_another_session"]

to_another_session: ContextVar[bool] = ContextVar("to_another_session", default=False)
"""Set while arguments of a call by name are pickled."""


def reduce_by_name(name: str, public_name: str, is_function: bool) -> tuple[Any, ...]:
    """Return what the handle of a class of this session reduces to for another session.

    Raises `InvalidError` if the class has no name there.
    """
    if not public_name:
        raise InvalidError(
            f"{name} is a handle, and another session can't call it, because its app has no name. "
            'Fix: declare it with app = lm.App("name") and @app.cls()'
        )
    app, _, own = public_name.partition("/")
    return (named_function if is_function else named_class), (app, own)


def make_instance(cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the handle of an instance that has crossed by the handle of its class."""
    return cls(*args, **kwargs)


def handle_of_key(key: str, is_function: bool) -> Any:
    """Return the handle of a class of another session, by the key of the class there."""
    app, _, name = key.partition("?")[0].partition("#")[0].rpartition("/")
    if not app:
        raise InvalidError(
            f"a handle of {name} can't leave its session, because its app has no name. "
            'Fix: declare it there with app = lm.App("name")'
        )
    return named_function(app, name) if is_function else named_class(app, name)
