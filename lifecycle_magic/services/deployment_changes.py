"""The changes of a deployment and their reasons, in the words of a card."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from enum import Enum

from lifecycle_magic.fingerprint.class_hierarchy import BASE, ORDER_OF_BASES
from lifecycle_magic.spec import reading
from lifecycle_magic.spec.class_spec import ClassSpec
from lifecycle_magic.spec.options import Options

__all__ = ["Change", "changed", "changed_since", "headline"]


class Change(Enum):
    """The kind of change that a deployment made."""

    NEW = "new"
    ADOPTED = "adopted"
    ADOPTED_AND_SWAPPED = "adopted and swapped"
    UNCHANGED = "unchanged"
    SWAPPED = "swapped"
    REPLACED = "replaced"


def headline(
    change: Change,
    old: ClassSpec | None,
    new: ClassSpec,
    *,
    why: str = "",
    around: Sequence[str] = (),
) -> str:
    """Return what a deployment did and why, in one line.

    ``why`` is the flag that requested it; ``around`` lists the changes outside of the class.
    """
    enter = ", ".join(f"{name}()" for name in new.enter)
    if change in (Change.ADOPTED, Change.ADOPTED_AND_SWAPPED):
        new_code = ", with the new code" if change is Change.ADOPTED_AND_SWAPPED else ""
        kept = f"; {enter} did not run again" if enter else ""
        return f"adopted from the previous kernel{new_code}{kept}"
    if change is Change.NEW or old is None:
        return "ready"
    if change is Change.UNCHANGED:
        return "unchanged: the containers keep running"
    if change is Change.SWAPPED:
        names = changed(old.code_parts, new.code_parts, new.name)
        kept = (
            f"; the state that {enter} loaded is kept" if enter else "; the live instance is kept"
        )
        return f"{_listed(names) or 'code'} reloaded{kept}"
    names = [why] if why else [*around, *_differing(old.options, new.options)]
    names += changed(old.state_parts, new.state_parts, new.name)
    if set(old.enter) != set(new.enter) or set(old.build) != set(new.build):
        names.append("hooks")
    because = f", because of {why}" if why else ""
    if not why and names:
        because = f", because {_listed(names)} changed"
    return f"new containers{because}; the previous ones run their exit hooks"


def changed(old: Mapping[str, str], new: Mapping[str, str], cls: str) -> list[str]:
    """Return the names of the parts that differ, those of the class without its name."""
    every = [*new, *(name for name in old if name not in new)]
    names = [_short(name, cls) for name in every if old.get(name) != new.get(name)]
    if any(name.startswith(BASE) for name in names):
        names = [name for name in names if name != ORDER_OF_BASES]
    return names


def _short(name: str, cls: str) -> str:
    bare = name.rpartition(" (")[0] or name
    return bare.removeprefix(f"{cls}.")


def _differing(old: Options, new: Options) -> list[str]:
    """Return the names of the changed options that need new containers; values may be secrets."""
    names = [field.name for field in dataclasses.fields(Options)]
    return [
        name
        for name in names
        if dataclasses.replace(old, **{name: getattr(new, name)}).key() != old.key()
    ]


def _listed(names: list[str], most: int = 4) -> str:
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return ", ".join(names)


def changed_since(spec: ClassSpec) -> list[str]:
    """Return the names whose values now are not those of the class that runs.

    ``spec`` is its declaration: its own code is the same, and what it refers to may have changed.
    """
    now = reading.read_class(spec.cls, spec.options, name=spec.name)
    names = changed(spec.code_parts, now.code_parts, spec.name)
    names += changed(spec.state_parts, now.state_parts, spec.name)
    if names:
        names = changed(spec.united_parts, now.united_parts, spec.name)
    return list(dict.fromkeys(names))
