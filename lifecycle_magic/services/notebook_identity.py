"""The notebook's identity, by which its next kernel finds the containers of the one before."""

from __future__ import annotations

import os
import sys

__all__ = ["current", "is_of_notebook"]

_NOTEBOOK = "notebook "
_known: str | None = None


def current() -> str:
    """Return what identifies this kernel's notebook, or the folder of a program without one.

    It is read once, when a class is declared: VS Code sets its variable only after the start of
    the kernel. Two notebooks of one relative name in different folders differ.
    """
    global _known
    if _known is None:
        name = _of_vscode() or os.environ.get("JPY_SESSION_NAME", "")
        folder = os.getcwd()
        _known = f"{_NOTEBOOK}{os.path.join(folder, name)}" if name else f"folder {folder}"
    return _known


def is_of_notebook(identity: str) -> bool:
    """Return whether an identity names a notebook, rather than a folder."""
    return identity.startswith(_NOTEBOOK)


def _of_vscode() -> str:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    found = getattr(shell, "user_ns", {}).get("__vsc_ipynb_file__")
    return found if isinstance(found, str) else ""
