"""Ways to call a method in other containers, where its plain function is known."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lifecycle_magic.decorators.marks import Marks

if TYPE_CHECKING:
    from lifecycle_magic.guest.foreign_calls import ForeignCalls
    from lifecycle_magic.guest.session_connection import CallTarget

__all__ = ["CALL_METHODS", "NO_ARGUMENTS", "calls_of"]

CALL_METHODS = ("remote", "remote_gen", "map", "starmap", "for_each", "spawn", "spawn_map")
NO_ARGUMENTS = pickle.dumps(((), {}), 5)


def calls_of(
    find: Callable[[], CallTarget], where: str, function: Any, marks: Marks | None
) -> ForeignCalls:
    """Return the ways to call a method. ``function`` is its plain function, with its marks."""
    import inspect

    from lifecycle_magic.guest import container_connection
    from lifecycle_magic.guest.foreign_calls import ForeignCalls, MethodKind

    function = inspect.unwrap(getattr(function, "__func__", function))
    is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    stated = marks.method.is_generator if marks is not None and marks.method else None
    yields = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    kind = MethodKind(is_async, yields if stated is None else stated)
    return ForeignCalls(lambda: (container_connection.connection(), find()), where, lambda: kind)
