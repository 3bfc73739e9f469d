"""The modules that came with the class: a folder of the run folder, imported from like any other.

Only that nothing is written there: what root compiles in a container, the user outside could not
remove.
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

MODULES = "modules"


class _ReadOnly(SourceFileLoader):
    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Keep no compiled file."""


def offer(run: str) -> None:
    """Have the modules in the run folder found before all others."""
    folder = os.path.join(run, MODULES)
    if not os.path.isdir(folder) or folder in sys.path:
        return
    hook = FileFinder.path_hook(
        (ExtensionFileLoader, EXTENSION_SUFFIXES), (_ReadOnly, SOURCE_SUFFIXES)
    )

    def find(path: str) -> Any:
        if path != folder and not path.startswith(folder + os.sep):
            raise ImportError(path)
        return hook(path)

    sys.path_hooks.insert(0, find)
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
