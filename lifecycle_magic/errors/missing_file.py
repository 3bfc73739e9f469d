"""Fixes for a data file that is next to the notebook but not in the container."""

from __future__ import annotations

import os
from pathlib import Path

from lifecycle_magic.wire.unpickling_errors import MODULES

__all__ = ["notes"]

_OF_THE_SYSTEM = (
    *("/bin", "/sbin", "/lib", "/lib64", "/usr", "/etc"),
    *("/boot", "/dev", "/proc", "/run", "/sys"),
)
"""Folders that every system has. What an image lacks there, it gets by installing a package."""


def notes(error: FileNotFoundError) -> list[str]:
    """Return a fix for each path of ``error`` that exists on this machine."""
    paths = dict.fromkeys(
        os.fsdecode(name).removeprefix(MODULES)  # next to a module is next to the notebook
        for name in (error.filename, error.filename2)
        if isinstance(name, (str, bytes, os.PathLike))
    )
    return [_note(path, local) for path in paths if (local := _here(path)) is not None]


def _here(path: str) -> Path | None:
    """Return where ``path`` exists on this machine, with relative paths resolved as in the
    notebook.

    Return None for a path that does not exist, and for one that belongs to the system.
    """
    try:
        local = Path.cwd() / path
        exists = bool(path) and local.exists()
    except (OSError, ValueError):  # the folder was removed, or no file can have the name
        return None
    normal = Path(os.path.normpath(local))
    if not exists or normal in (Path.cwd(), Path("/")):
        return None
    if any(normal.is_relative_to(folder) for folder in _OF_THE_SYSTEM):
        return None
    return normal


def _note(path: str, local: Path) -> str:
    is_folder = local.is_dir()
    add, what = ("add_local_dir", "Folders") if is_folder else ("add_local_file", "Data files")
    if os.path.isabs(path):
        where, source, target = "on this machine", str(local), str(local)
        folder = local if is_folder else local.parent
        mount, then = f"{folder}:{folder}", ""
    else:
        where, source = f"next to the notebook, as {local}", path
        inside = local.is_relative_to(Path.cwd())
        target = f"/data/{local.relative_to(Path.cwd()) if inside else local.name}"
        mount = ".:/data" if inside else f"{local.parent}:/data"
        then = f". Then use {target} in the class"
    return (
        f"{path} exists {where}, but not in the container: {what.lower()} are not copied with a "
        f'class. Fix: copy it into the image, as in image.{add}("{source}", "{target}"), or mount '
        f"its folder, as in --volume {mount}{then}"
    )
