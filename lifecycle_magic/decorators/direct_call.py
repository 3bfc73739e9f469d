"""``self.method.local(...)`` in a method: a call on the same instance, as in Modal's programs.

A bound method only has the attributes of its function, which do not know the instance. So the call
looks for the instances of the class that are alive in this process. If there is one, it is the one
that is meant; a container has one. Otherwise an error says to write ``self.method(...)``, which
means the same.

This module travels into containers: the standard library and `lifecycle_magic.exception` only.
"""

from __future__ import annotations

import gc
from typing import Any

from lifecycle_magic.exception import InvalidError

__all__ = ["DirectCall", "attach"]


class DirectCall:
    """The value of ``.local`` of a method that is looked up on a plain instance.

    ``owner`` is the class that has the method, under ``name``; None if it is not known here.
    """

    def __init__(self, where: str, owner: type | None = None, name: str = "") -> None:
        self._where = where
        self._owner = owner
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        found = _instances(self._owner)
        if len(found) > 1:
            del found  # it would keep what the collection below removes
            gc.collect()
            found = _instances(self._owner)
        if len(found) != 1:
            name = self._where.rpartition(".")[2]
            raise InvalidError(
                f"{self._where}.local(...): {len(found) or 'no'} instances of the class are known "
                f"here, and one has to be. Fix: write self.{name}(...), which means the same"
            )
        [instance] = found
        method = vars(self._owner)[self._name]
        return method.__get__(instance, type(instance))(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return DirectCall, ("this method",)  # the same code under another class name is equal


def attach(owner: type, name: str, function: Any) -> None:
    """Let ``self.name.local(...)`` call a method of ``owner`` on the only living instance."""
    vars(function)["local"] = DirectCall(f"{owner.__name__}.{name}", owner, name)


def _instances(owner: type | None) -> list[Any]:
    """Return the living instances of a class and of the classes that inherit from it.

    Nothing if some may be hidden: the garbage collector does not show frozen objects.
    """
    if owner is None or gc.get_freeze_count():
        return []
    kinds: list[type] = [owner]
    for kind in kinds:
        below: list[type] = type.__subclasses__(kind)
        kinds += [one for one in below if one not in kinds]
    wanted = {id(kind) for kind in kinds}
    return [one for one in gc.get_referrers(*kinds) if id(type(one)) in wanted]
