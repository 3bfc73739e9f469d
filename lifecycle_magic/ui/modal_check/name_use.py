"""The record of one use of a name of Modal's in a script, and the notes about unknown names."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["UNKNOWN", "Found", "NameUse", "instead_of"]

UNKNOWN = "it is not known here. Fix: remove it, or check its name"

Found = Literal["runs", "renamed", "ignored", "refused", "unknown", "import"]
"""What becomes of a name here."""


class NameUse(NamedTuple):
    """One use of a name of Modal's: where, and what becomes of it.

    ``cell`` is the number of a notebook's code cell. ``note`` is why the name does nothing, or
    what to write instead.
    """

    line: int
    column: int
    name: str
    verdict: Found
    note: str = ""
    cell: int | None = None


def instead_of(owner: str) -> str:
    """Return the note about an unknown name of a module or class."""
    from lifecycle_magic.modal_api.names import INSTEAD_OF_MODULE

    return INSTEAD_OF_MODULE.get(owner.rpartition(".")[2], UNKNOWN)
