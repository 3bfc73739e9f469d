"""Methods of Modal's objects under their former names: they warn once, and do what they did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lifecycle_magic.modal_api.table import old_spelling

__all__ = ["OLD_WAYS", "OldMember", "looks_up", "old_way"]

OLD_WAYS = ("call", "submit")
"""Former ways to call a function or method."""


class OldMember:
    """A former method of a class of Modal's, which calls ``now`` with the class and the arguments.

    On the handle of a user's class it is the class's own attribute of this name, if it has one.
    """

    def __init__(self, now: Callable[..., Any]) -> None:
        self._now = now

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner.__name__, name

    def __get__(self, instance: object, owner: type) -> Any:
        found = getattr(type(instance), "__getattr__", None)
        if instance is not None and found is not None:
            return found(instance, self._name)

        def call(*args: Any, **kwargs: Any) -> Any:
            old_spelling(self._owner, self._name)
            return self._now(owner, *args, **kwargs)

        call.__name__ = self._name
        call.__qualname__ = f"{self._owner}.{self._name}"
        return call


def looks_up(owner: Any, *args: Any, **kwargs: Any) -> Any:
    """Return what ``from_name`` does, after it was looked up: `lookup` raised `NotFoundError`."""
    return owner.from_name(*args, **kwargs).hydrate()


def old_way(method: Any, name: str) -> Any:
    """Return what ``f.call`` or ``f.submit`` did: call the function, or start the call."""
    way = method.spawn
    if name == "call":
        way = method.remote_gen if method._spec.is_generator else method.remote

    def call(*args: Any, **kwargs: Any) -> Any:
        old_spelling("Function", name)
        return way(*args, **kwargs)

    call.__name__ = call.__qualname__ = name
    return call
