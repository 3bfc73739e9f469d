"""Files that the user alone can read, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from lifecycle_magic.host import temporary_names

__all__ = ["write_private"]


def write_private(path: Path, content: str) -> None:
    """Write a file that this user alone can read, in place of an earlier one."""
    part = path.with_name(temporary_names.temporary_name())
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
