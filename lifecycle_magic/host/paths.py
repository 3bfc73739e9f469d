"""Paths on the host below one root, which is read from the environment at each call."""

from __future__ import annotations

import glob
import os
import urllib.parse
from pathlib import Path

from lifecycle_magic.host.safe_folder import open_safely

__all__ = ["chosen_root", "file_name", "private_folder", "state_root", "warnings"]

_checked: dict[tuple[str, int], tuple[str, ...]] = {}
"""The warnings about each root that this process has checked, by path and user."""


def state_root() -> Path:
    """Return the folder of all state, and create it if it is missing.

    The folder is ``LIFECYCLE_MAGIC_STATE``, otherwise ``$XDG_STATE_HOME/lifecycle_magic``. It is
    created with mode 0700, because it holds sockets, logs and volumes. Raises `EngineError` if
    another user could change its content; this is checked once per process.
    """
    root = chosen_root()
    key = str(root), os.geteuid()
    if key not in _checked or not root.is_dir():
        _checked[key] = open_safely(root)
    return root


def chosen_root() -> Path:
    """Return the path of the state folder, which may be missing or unsafe."""
    chosen = os.environ.get("LIFECYCLE_MAGIC_STATE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser().absolute() / "lifecycle_magic"


def warnings() -> tuple[str, ...]:
    """Return the warnings about the state folder, if this process has checked it."""
    return _checked.get((str(chosen_root()), os.geteuid()), ())


def matching(folder: Path, pattern: str) -> list[Path]:
    """Return the paths below ``folder`` that match ``pattern``, as ``*/owner.json``.

    A folder that another process removes meanwhile has no files. `Path.glob` would raise
    `FileNotFoundError` then, before Python 3.13.
    """
    return [folder / name for name in glob.glob(pattern, root_dir=folder)]


def file_name(name: str) -> str:
    """Return the name of an engine as a part of a file's name, without a hyphen.

    >>> file_name("docker"), file_name("ssh://me@box")
    ('docker', 'ssh%3A%2F%2Fme@box')
    """
    return urllib.parse.quote(name, safe="@").replace("-", "%2D")[:100]


def private_folder(path: Path) -> Path:
    """Create ``path`` and its missing parents with mode 0700, and return it."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        private_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
    return path
