"""Notices about names that a running class uses as they were when its cell ran."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lifecycle_magic.session import session

if TYPE_CHECKING:
    from lifecycle_magic.services.service import Service

__all__ = ["StaleNames"]


class StaleNames:
    """The names that the cells of one notebook assign, and which of these names were reported.

    A function or value that a cell assigns anew reaches a class when the cell of the class runs
    again. Each name is reported once after each run of that cell.
    """

    def __init__(self, namespace: Mapping[str, object]) -> None:
        self._namespace = namespace
        self._seen: dict[str, tuple[float, dict[str, int]]] = {}  # by the key of the class
        self._reported: set[tuple[str, float, str]] = set()

    def look(self, *_: Any) -> None:
        """Report the names that the last cell has changed. Called after every cell."""
        current = session.opened()
        for key, service in list(current.services.items()) if current is not None else ():
            if service.last_edit is not None and (text := self._report(key, service)):
                print(text)

    def _report(self, key: str, service: Service) -> str:
        version, edit = service.version, service.last_edit
        if version is None or edit is None:
            return ""
        spec = version.spec
        names = {_bare(name) for name in (*spec.code_parts, *spec.state_parts)}
        # Objects are compared first: to read the class again takes longer than many a cell.
        ids = {name: id(self._namespace[name]) for name in names if name in self._namespace}
        at, before = self._seen.get(key, (0.0, {}))
        self._seen[key] = edit.at, ids
        if at != edit.at or ids == before:
            return ""
        found = [
            name for name in service.changed_since() if (key, edit.at, name) not in self._reported
        ]
        self._reported.update((key, edit.at, name) for name in found)
        if not found:
            return ""
        from lifecycle_magic.ui.edits import stale

        return stale(service.name, found)


def _bare(name: str) -> str:
    """Return the name in the notebook for a part of a class, such as ``helper() (function)``."""
    return (name.rpartition(" (")[0] or name).removesuffix("()")
