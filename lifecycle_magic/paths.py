"""Where things lie on the host: one root, taken from the environment each time it is asked for."""

from __future__ import annotations

import os
from pathlib import Path


def state_root() -> Path:
    """The folder of everything we keep: ``LIFECYCLE_MAGIC_STATE``, else below ``$XDG_STATE_HOME``.

    It is made, with mode 0700, if it is missing: sockets, logs and volumes lie below it.
    """
    chosen = os.environ.get("LIFECYCLE_MAGIC_STATE")
    if chosen:
        root = Path(chosen).expanduser().absolute()
    else:
        home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        root = Path(home).expanduser().absolute() / "lifecycle_magic"
    return private_folder(root)


def private_folder(path: Path) -> Path:
    """``path``, made with its parents where missing; a folder made here is 0700."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    return path
