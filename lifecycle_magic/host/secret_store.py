"""Named secrets of this user: a file of mode 0600 each, in ``secrets/`` of the state folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.host.paths import matching, private_folder, state_root
from lifecycle_magic.host.private_file import write_private

__all__ = ["create", "delete", "names", "read"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)


def create(name: str, values: Mapping[str, str]) -> None:
    """Store ``values`` under ``name``, in place of what was there."""
    write_private(_folder() / f"{check_name(name)}.json", json.dumps(dict(values)))


def read(name: str) -> dict[str, str] | None:
    """Return the variables stored under ``name``; None if there are none."""
    try:
        found = json.loads((_folder() / f"{check_name(name)}.json").read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise InvalidError(
            f"the stored secret {name} is damaged. Fix: lifecycle-magic secret create {name} ..."
        )
    return found


def names() -> list[str]:
    """Return the names of all stored secrets, sorted."""
    return sorted(path.stem for path in matching(_folder(), "[!.]*.json"))


def delete(name: str) -> bool:
    """Remove a stored secret; return False if there is none."""
    try:
        (_folder() / f"{check_name(name)}.json").unlink()
    except FileNotFoundError:
        return False
    return True


def check_name(name: object) -> str:
    """Return a name that a secret can have; raises `InvalidError` for another."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidError(
            f"{name!r} can't be the name of a secret. "
            "Fix: use letters, digits, '_', '-' and '.', at most 64"
        )
    return name


def _folder() -> Path:
    return private_folder(state_root() / "secrets")
