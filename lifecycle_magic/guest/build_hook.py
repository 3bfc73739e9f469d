"""Build hooks of a class with secrets: no file of theirs may hold a secret's value."""

from __future__ import annotations

import functools
import inspect
import os
import time
import types
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from lifecycle_magic.exception import BuildError
from lifecycle_magic.guest import secret_search

if TYPE_CHECKING:
    from lifecycle_magic.wire.messages import Setup

__all__ = ["SearchedInstance", "searched"]

_OWN_RUN_FOLDER = "/run/lifecycle"
"""The run folder of a container that has a root folder of its own."""


def searched(instance: Any, setup: Setup, run: str) -> SearchedInstance:
    """Return the instance of a build hook, whose container has the run folder ``run``."""
    secrets = {name: setup.env[name] for name in setup.secrets}
    return SearchedInstance(instance, secrets, has_own_root=run == _OWN_RUN_FOLDER)


class SearchedInstance:
    """An instance whose methods raise `BuildError` if a file that they wrote holds a secret.

    ``secrets`` are values by their names. ``has_own_root`` is true where the whole root folder
    becomes the image's, otherwise the working folder and the home folder do.
    """

    def __init__(self, instance: Any, secrets: Mapping[str, str], *, has_own_root: bool) -> None:
        self._instance = instance
        self._secrets = secrets
        self._folders = ["/"] if has_own_root else [os.getcwd(), os.path.expanduser("~")]

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._instance, name)
        title = getattr(inspect.unwrap(method), "__name__", name)

        @functools.wraps(method)
        def run(*args: Any, **kwargs: Any) -> Any:
            began = time.time()
            value = method(*args, **kwargs)
            if isinstance(value, types.CoroutineType):
                return self._finish(value, title, began)
            self._search(title, began)
            return value

        return run

    async def _finish(self, running: Coroutine[Any, Any, Any], name: str, began: float) -> Any:
        value = await running
        self._search(name, began)
        return value

    def _search(self, name: str, began: float) -> None:
        found = secret_search.find(self._secrets, self._folders, began)
        if found is not None:
            raise BuildError(f"{name}(): {secret_search.message(*found)}")
