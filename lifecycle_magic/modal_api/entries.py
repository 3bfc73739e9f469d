"""`ApiEntry`: a name of Modal's API and what becomes of it here.

The *owner* of a name is where it is found: ``modal`` for ``modal.App``, ``modal.gpu`` for what a
module has, ``App`` for what an app has, ``Image.pip_install`` for the keywords of a method (their
names end with ``=``), ``options`` for the keywords of classes and functions, and ``run`` or ``app``
for the options and subcommands of a command. An owner that ends with ``.*`` stands for all methods
of a class.

Standard library only: this package is imported in containers too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

__all__ = ["ApiEntry", "Section", "Verdict", "ignored", "refused", "renamed", "runs"]

Verdict = Literal["runs", "renamed", "ignored", "refused"]
"""``runs``: as in Modal. ``renamed``: an old spelling, which runs after one warning that shows the
new one. ``ignored``: does nothing, and one notice says so. ``refused``: an error says what to write
instead."""


class ApiEntry(NamedTuple):
    """A name, and what becomes of it: ``note`` is its new spelling, why it does nothing, or what to
    write instead.
    """

    owner: str
    name: str
    verdict: Verdict
    note: str = ""

    @property
    def shown(self) -> str:
        """The name as a reader writes it: ``Image.pip_install(gpu=)``, ``run --detach``."""
        if self.owner in ("modal", "options", "*"):
            return self.name
        if self.name.endswith("="):
            return f"{self.owner}({self.name})"
        if self.owner.islower() and not self.owner.startswith("modal"):  # a command
            return f"{self.owner} {self.name}".removeprefix("lifecycle-magic ")
        return f"{self.owner}.{self.name}"


class Section(NamedTuple):
    """A part of the API, for a table of its own."""

    title: str
    entries: tuple[ApiEntry, ...]


def runs(owner: str, names: str, note: str = "") -> Iterator[ApiEntry]:
    """Yield entries that run: ``names`` are separated by blanks, ``note`` is a difference."""
    for name in names.split():
        yield ApiEntry(owner, name, "runs", note)


def renamed(owner: str, notes: Mapping[str, str]) -> Iterator[ApiEntry]:
    """Yield old spellings: names, several separated by blanks, with the new spelling."""
    return _each(owner, "renamed", notes)


def ignored(owner: str, notes: Mapping[str, str]) -> Iterator[ApiEntry]:
    """Yield entries that do nothing: names, several separated by blanks, with the reason."""
    return _each(owner, "ignored", notes)


def refused(owner: str, notes: Mapping[str, str]) -> Iterator[ApiEntry]:
    """Yield entries that raise an error: names, several separated by blanks, with the fix."""
    return _each(owner, "refused", notes)


def _each(owner: str, verdict: Verdict, notes: Mapping[str, str]) -> Iterator[ApiEntry]:
    for names, note in notes.items():
        for name in names.split():
            yield ApiEntry(owner, name, verdict, note)
