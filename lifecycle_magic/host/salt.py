"""The salt under which digests of secret values are shown: one for each state folder.

It is the same for every kernel of this user, so that two of them agree whether a secret has
changed, and it is never shown itself.
"""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

from lifecycle_magic.exception import Error
from lifecycle_magic.host import temporary_names
from lifecycle_magic.host.paths import private_folder, state_root

__all__ = ["of_state_folder"]

_BYTES = 32


def of_state_folder() -> bytes:
    """Return the salt of the state folder, made at its first use.

    Where the folder can't be used, it is one of this process.
    """
    try:
        return _read_or_make(state_root() / "secrets" / ".salt")
    except (OSError, Error):
        return _of_process()


@functools.cache
def _of_process() -> bytes:
    return os.urandom(_BYTES)


def _read_or_make(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        found = path.read_bytes()
        if len(found) == _BYTES:
            return found
        path.unlink()  # damaged
    part = private_folder(path.parent) / temporary_names.temporary_name()
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(_BYTES))
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path.read_bytes()
