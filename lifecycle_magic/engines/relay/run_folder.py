"""The run folder of a container on another machine: what is sent of it, and what comes back."""

from __future__ import annotations

import os

from lifecycle_magic.wire import packed_files

__all__ = ["pack_run_folder", "write_file"]


def pack_run_folder(run: str) -> bytes:
    """Return the regular files of a run folder that its container needs, with their length.

    The boot file holds a token and is removed, as the container would.
    """
    files: dict[str, bytes] = {}
    for folder, _, names in os.walk(run):
        for name in names:
            path = os.path.join(folder, name)
            below = os.path.relpath(path, run)
            if below != "boot.json" and not below.startswith("modules" + os.sep):
                continue
            with open(path, "rb") as file:
                files[below] = file.read()
            if below == "boot.json":
                os.unlink(path)
    return packed_files.pack(files)


def write_file(path: str, data: bytes) -> None:
    """Write a file of a run folder, which is never read through a link."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with open(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)
