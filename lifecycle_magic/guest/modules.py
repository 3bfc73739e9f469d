"""The modules that travel with the class: a folder in the run folder, imported like any other.

Nothing is written there: the user outside could not remove files that root compiles in a container.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
)
from typing import Any

from lifecycle_magic.wire.host_settings import MODULES


class _SourceLoader(SourceFileLoader):
    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Write no compiled file."""


def add_to_path(run: str, *, copied: bool = False) -> None:
    """Make the modules in the run folder found before all others.

    They are ``copied`` for a worker that may not read the run folder, which belongs to the kernel's
    user.
    """
    folder = os.path.join(run, MODULES)
    if not os.path.isdir(folder) or folder in sys.path:
        return
    if copied:
        folder = _copy(folder)
    hook = FileFinder.path_hook(
        (ExtensionFileLoader, EXTENSION_SUFFIXES), (_SourceLoader, SOURCE_SUFFIXES)
    )

    def find(path: str) -> Any:
        if path != folder and not path.startswith(folder + os.sep):
            raise ImportError(path)
        return hook(path)

    sys.path_hooks.insert(0, find)
    sys.path.insert(0, folder)
    importlib.invalidate_caches()


def _copy(folder: str) -> str:
    import shutil
    import tempfile

    copy = os.path.join(tempfile.mkdtemp(prefix="lifecycle-"), MODULES)
    shutil.copytree(folder, copy)
    os.chmod(os.path.dirname(copy), 0o755)
    for place, _, files in os.walk(copy):
        os.chmod(place, 0o755)
        for name in files:
            os.chmod(os.path.join(place, name), 0o644)
    return copy
