"""Fixes for a module that a container does not have, or cannot load."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from lifecycle_magic.fingerprint import origin
from lifecycle_magic.host.paths import state_root

# A package's name often differs from its module's, and the kernel may not have the package.
_KNOWN = {
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def fix_for(module: str, cls: str) -> str:
    """Return how to add ``module`` to the container of ``cls``, in one or two sentences."""
    top = module.partition(".")[0]
    path = _beside(top)
    if path is not None:
        return (
            f"{path} is next to the notebook, but nothing that {cls} refers to imports {top}, so "
            f"it was not copied. Fix: write import {top} in the cell of the class and use it "
            "there, or import it in the method that needs it"
        )
    if top in sys.stdlib_module_names:
        return (
            f"{top} belongs to the standard library, but the Python of this image lacks it. "
            "Fix: use an image with a complete Python"
        )
    name, version = _distribution(top)
    here = f" (this kernel has {name} {version})" if version else ""
    sure = "" if version or top in _KNOWN else f", or the name of the package that contains {top}"
    return (
        f"The image of {cls} does not have it{here}. "
        f'Fix: add .pip_install("{name}") to its image, or --pip {name} to the cell{sure}'
    )


def unloadable(message: str) -> str:
    """Return the fix for an import that failed because of a noexec mount, an empty string for
    another ``message``.
    """
    if "failed to map segment" not in message:
        return ""
    root = state_root()
    where = f"{root}, where its packages are installed, is on" if noexec(root) else "it is on"
    return (
        f"{where} a file system that is mounted noexec, so no compiled library can be loaded from "
        "there. Fix: set LIFECYCLE_MAGIC_STATE to a folder elsewhere, or mount it with exec"
    )


def noexec(path: Path) -> bool:
    """Return whether the file system of ``path`` is mounted noexec."""
    return bool(os.statvfs(path).f_flag & getattr(os, "ST_NOEXEC", 8))


def _beside(top: str) -> str | None:
    if top in sys.stdlib_module_names or origin.is_ours(top):
        return None
    try:
        found = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    path = found.origin if found is not None else None
    if path is None or not path.endswith(".py") or origin.is_installed_path(path):
        return None
    return path


def _distribution(top: str) -> tuple[str, str]:
    """Return the package that contains the module, and its version in this kernel, or ""."""
    from importlib import metadata

    found = metadata.packages_distributions().get(top)
    if found:
        return found[0], metadata.version(found[0])
    return _KNOWN.get(top, top), ""
