"""The names of a class that the container makes again by statements, while the class is packed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lifecycle_magic.exception import SerializationError
from lifecycle_magic.fingerprint import fingerprint, reruns
from lifecycle_magic.fingerprint.reruns import Reruns
from lifecycle_magic.services.class_namespace import namespace_of
from lifecycle_magic.services.packed import Key, Packed
from lifecycle_magic.wire.rerun_names import RerunName
from lifecycle_magic.wire.unpicklable import UnpicklableError

__all__ = ["UNNAMED", "RerunPlan", "pack_for_other_releases", "pack_for_script"]

UNNAMED = "__lifecycle_statements__"


class RerunPlan:
    """The stand-ins for such names, and the statements that they get in the end.

    All names that a class reads share one block, so each statement runs once.
    """

    def __init__(self, cls: type, remade: Reruns) -> None:
        self._cls, self._remade = cls, remade

    @property
    def has_unnamed(self) -> bool:
        """Return whether statements set something up in the container."""
        return bool(self._remade.unnamed)

    def makes(self, name: str) -> bool:
        """Return whether a name of the class's namespace is made again in the container."""
        return name in self._remade.names

    def stand_in(self, label: str, name: str) -> RerunName:
        """Return what travels in place of the value of a name."""
        return RerunName(label, name)

    def reads_of(self, name: str) -> list[str]:
        """Return the names that the statements of a name read."""
        return self._remade.reads(self._remade.statements_of([name]))

    def place(self, values: dict[Key, Any]) -> None:
        """Give the stand-ins in ``values`` their statements.

        Raises `UnpicklableError` if the class's own statement reads such a name.
        """
        self._check_class_bodies()
        stand_ins = [one for one in values.values() if type(one) is RerunName]
        if not stand_ins:
            return
        indices = self._remade.statements_of(one.name for one in stand_ins)
        reads = self._remade.reads(indices)
        content = fingerprint.of_names(namespace_of(self._cls), reads, self._cls)
        block = self._remade.block(indices, content)
        for one in stand_ins:
            one.place(block)

    def _check_class_bodies(self) -> None:
        """Refuse a class whose body reads such a name: the body does not run in the container."""
        for one in self._cls.__mro__[:-1]:
            if one.__module__ != self._cls.__module__:
                continue
            for name in sorted(self._remade.reads_in_body(one.__qualname__)):
                raise UnpicklableError(
                    f"the class body of {one.__qualname__} reads {self._remade.place_of(name)}, "
                    "whose value depends on where it is made. The class body runs in this process "
                    f"alone. Fix: read {name} in a method"
                )

    def refuse_copy(self, name: str) -> None:
        """Raise `UnpicklableError` for a definition that is made again, and that a value holds."""
        if self.makes(name):
            raise UnpicklableError(
                f"{self._remade.place_of(name)} depends on where it is made, and another value "
                f"that the class reads holds it. Fix: have the class read {name} by its name"
            )


def pack_for_script(
    space: dict[str, Any], variables: frozenset[str], pack: Callable[[Reruns], Packed]
) -> Packed:
    """Return the class packed. What a script's top-level names hold and pickle can't send, such as
    a lock or a client, is made again in the container by their statements.

    Raises `UnpicklableError` for such a value in a notebook, whose cells may have changed it.
    """
    names: dict[str, None] = {}
    found = remade = reruns.find(space, variables)
    while True:
        try:
            return pack(remade)
        except UnpicklableError as error:
            name = error.top_level_name
            if not name or name in names or not reruns.is_script(space):
                raise
            names[name] = None
            remade = found.with_names(names)
            if not remade.is_known(name):
                raise


def pack_for_other_releases(
    remade: Reruns, names: Iterable[str], pack: Callable[[Reruns], Packed]
) -> Packed | None:
    """Return the class packed for an image with other releases of the libraries of ``names``.

    Besides those of ``remade``, these objects are made again there by their statements. Return None
    where these are not known.
    """
    made = dict.fromkeys((*remade.names, *names))
    while True:
        remade = remade.with_names(made)
        if not all(map(remade.is_known, made)):
            return None
        try:
            packed = pack(remade)
        except SerializationError:
            return None
        if not packed.from_releases:
            return packed
        if made.keys() >= packed.from_releases.keys():
            return None
        made |= packed.from_releases  # the statements of some read others
