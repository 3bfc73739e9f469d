"""The one list of Modal's API: lookups in it, and the notices and errors that follow from it."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lifecycle_magic import exception
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.modal_api import command_line, images, names, objects, options
from lifecycle_magic.modal_api.entries import ApiEntry, Section, Verdict, refused, runs

__all__ = [
    "check_keywords",
    "explain",
    "find",
    "notes",
    "notice",
    "old_spelling",
    "refuse",
    "refuse_members",
    "sections",
]

_PACKAGE = str(Path(__file__).parents[1])


def _exceptions() -> Section:
    ours = " ".join(name for name in exception.__all__ if name in exception.OF_MODAL_TOO)
    nearest = [
        entry
        for name, kind in exception.OF_MODAL.items()
        for entry in runs("modal.exception", name, f"the same as `{kind.__name__}`")
    ]
    never = " ".join(exception.NEVER_RAISED)
    return Section(
        "Exceptions",
        (
            *runs("modal.exception", ours),
            *nearest,
            *runs("modal.exception", never, "a handler may stay, and never runs"),
            *refused("modal.exception", exception.REFUSED),
        ),
    )


@functools.cache
def sections() -> tuple[Section, ...]:
    """Return the whole list, by parts of the API."""
    first, modules = names.SECTIONS
    return (
        first,
        *options.SECTIONS,
        *objects.SECTIONS,
        *images.SECTIONS,
        *command_line.SECTIONS,
        _exceptions(),
        modules,
    )


@functools.cache
def _by_name() -> dict[tuple[str, str], ApiEntry]:
    return {(one.owner, one.name): one for part in sections() for one in part.entries}


def find(owner: str, name: str) -> ApiEntry | None:
    """Return what is known of a name, None if Modal does not have it.

    For the keyword of a method, the keywords of all methods of its class and those that are
    everywhere count too.

    >>> find("App", "deploy").verdict
    'refused'
    """
    known = _by_name()
    found = known.get((owner, name))
    if found is None and name.endswith("="):
        found = known.get((f"{owner.partition('.')[0]}.*", name)) or known.get(("*", name))
    return found


def notes(owner: str, *verdicts: Verdict) -> dict[str, str]:
    """Return the names of an owner with one of these verdicts, without ``=``, with their notes."""
    return {
        one.name.removesuffix("="): one.note
        for one in _by_name().values()
        if one.owner == owner and one.verdict in verdicts
    }


def explain(owner: str, name: str) -> str | None:
    """Return the message for a name that Modal has and that is refused here, otherwise None."""
    entry = find(owner, name)
    if entry is None or entry.verdict != "refused":
        return None
    said = entry.shown.removeprefix("modal.")
    if "Fix: " in entry.note:
        return f"Modal has {said}, here there is none: {entry.note}"
    return f"Modal has {said}, here there is none. Fix: {entry.note}"


class NotHere(InvalidError, AttributeError):
    """An attribute that only Modal's objects have: `hasattr` is False, and the message says what
    to write instead.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return InvalidError, self.args


NotHere.__name__ = NotHere.__qualname__ = "InvalidError"


def refuse(owner: str, name: str) -> None:
    """Raise an `InvalidError` that is an `AttributeError` too, for a name that Modal's ``owner``
    has and that is refused here. Do nothing for any other name.
    """
    if said := explain(owner, name):
        raise NotHere(said)


def check_keywords(where: str, given: Mapping[str, Any], known: Iterable[str] = ()) -> None:
    """Check the keywords that a function ``where`` does not know by itself.

    One of Modal's that does nothing is named in a notice; a refused one raises `InvalidError` that
    says what to write, and so does one that Modal does not have either. ``known`` are the
    function's own keywords. None, False and empty values are Modal's defaults and pass.
    """
    for name, value in given.items():
        entry = find(where.removeprefix("@"), f"{name}=")
        if entry is None:
            raise InvalidError(f"{where} has no option {name}: {_nearest(where, name, known)}")
        if value is None or value is False or value == () or value == [] or value == {}:
            continue
        if entry.verdict == "refused":
            raise InvalidError(f"{where} has no {name}= here: {entry.note}")
        if entry.verdict == "renamed":
            raise InvalidError(f"{where} has no {name}= here. Fix: write {entry.note}")
        if entry.verdict == "ignored":
            notice(where, name, entry.note)


def _nearest(where: str, name: str, known: Iterable[str]) -> str:
    import difflib

    known = list(known)
    near = difflib.get_close_matches(name, known, n=1) if not where.startswith("@") else []
    return f"did you mean {near[0]}?" if near else f"it takes {', '.join(known) or 'no options'}"


_noticed: set[tuple[str, str]] = set()


def notice(where: str, name: str, why: str) -> None:
    """Warn, the first time in this process, that a keyword does nothing here."""
    if (where, name) not in _noticed:
        _noticed.add((where, name))
        said = f"{name}=" if where == "options" else f"{where}({name}=...)"
        warnings.warn(f"{said} does nothing here: {why}", stacklevel=_depth())


def old_spelling(owner: str, name: str) -> None:
    """Warn, the first time in this process, that a name or keyword has a new spelling."""
    entry = find(owner, name)
    if entry is not None and (owner, name) not in _noticed:
        _noticed.add((owner, name))
        said = f"{entry.shown} is an old spelling: write {entry.note}"
        warnings.warn(said, stacklevel=_depth())


def _depth() -> int:
    """Return the stack level of the user's line."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        depth, frame = depth + 1, frame.f_back
    return depth


class _RefusedMember:
    """An attribute of a class that only Modal's has: reading it raises `AttributeError`."""

    def __init__(self, owner: str, name: str) -> None:
        self._owner, self._name = owner, name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        found = getattr(type(instance), "__getattr__", None)
        if instance is not None and found is not None:
            return found(instance, self._name)  # the handle of a class has the class's own names
        refuse(self._owner, self._name)
        return None


def refuse_members(cls: type, owner: str | None = None) -> None:
    """Let what only Modal's class of this name, or of ``owner``, has say what to write instead."""
    owner = owner or cls.__name__
    for name in notes(owner, "refused"):
        if not hasattr(cls, name):
            setattr(cls, name, _RefusedMember(owner, name))
