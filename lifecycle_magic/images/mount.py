"""`Mount`, by which programs for Modal before 1.0 added local files to containers.

Here a mount is a list of an image's steps: `Mount.added_to` adds them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle_magic.checks import host_path
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.modal_api.table import old_spelling, refuse_members

if TYPE_CHECKING:
    from lifecycle_magic.images.image import Image

__all__ = ["Mount"]

Condition = Callable[[str], bool]
"""Gets the path of a file on this machine and returns whether the mount has it."""

_HOME = "/root"  # where Modal puts what has no path of its own


@dataclass(frozen=True)
class Mount:
    """Local files and folders for containers: the steps of an image that add them.

    >>> mount = Mount.from_local_file(__file__, "/data/mount.py")  # doctest: +SKIP
    """

    steps: tuple[tuple[str, tuple[Any, ...], tuple[tuple[str, Any], ...]], ...] = ()

    @classmethod
    def from_local_dir(
        cls,
        local_path: str | os.PathLike[str],
        *,
        remote_path: str | os.PathLike[str] | None = None,
        condition: Condition | None = None,
        recursive: bool = True,
    ) -> Mount:
        """Return a mount of a folder: see `add_local_dir`."""
        old_spelling("modal", "Mount")
        return cls().add_local_dir(
            local_path, remote_path=remote_path, condition=condition, recursive=recursive
        )

    @classmethod
    def from_local_file(
        cls,
        local_path: str | os.PathLike[str],
        remote_path: str | os.PathLike[str] | None = None,
    ) -> Mount:
        """Return a mount of one file: see `add_local_file`."""
        old_spelling("modal", "Mount")
        return cls().add_local_file(local_path, remote_path)

    @classmethod
    def from_local_python_packages(cls, *module_names: str, **options: Any) -> Mount:
        """Return a mount of local modules or packages, under the names that they have here.

        Raises `InvalidError` for ``remote_dir=`` and ``condition=``: a package travels as a whole.
        """
        old_spelling("modal", "Mount")
        if given := [name for name, value in options.items() if value is not None]:
            raise InvalidError(
                f"Mount.from_local_python_packages has no {given[0]}= here: a package travels as "
                "a whole, under its own name. Fix: remove it, or use image.add_local_dir(...)"
            )
        return cls((("add_local_python_source", module_names, ()),))

    def add_local_dir(
        self,
        local_path: str | os.PathLike[str],
        *,
        remote_path: str | os.PathLike[str] | None = None,
        condition: Condition | None = None,
        recursive: bool = True,
    ) -> Mount:
        """Return the mount with a folder, by default as ``/root/<its name>``.

        ``condition`` gets the path of each file on this machine and returns whether the mount has
        it; ``recursive=False`` leaves out what is in folders of the folder.
        """
        folder = host_path("Mount.from_local_dir", local_path)

        def ignore(path: Path) -> bool:
            if not recursive and len(path.parts) > 1:
                return True
            file = folder / path
            return condition is not None and file.is_file() and not condition(str(file))

        options = (("ignore", ignore),) if condition is not None or not recursive else ()
        return self._with("add_local_dir", folder, remote_path, options)

    def add_local_file(
        self,
        local_path: str | os.PathLike[str],
        remote_path: str | os.PathLike[str] | None = None,
    ) -> Mount:
        """Return the mount with a file, by default as ``/root/<its name>``."""
        return self._with(
            "add_local_file", host_path("Mount.from_local_file", local_path), remote_path, ()
        )

    def _with(
        self,
        method: str,
        local: Path,
        remote_path: str | os.PathLike[str] | None,
        options: tuple[tuple[str, Any], ...],
    ) -> Mount:
        remote = f"{_HOME}/{local.name}" if remote_path is None else os.fspath(remote_path)
        if not remote.startswith("/"):
            remote = f"{_HOME}/{remote}"
        return Mount((*self.steps, (method, (local, remote), options)))

    def added_to(self, image: Image) -> Image:
        """Return ``image`` with what is mounted. Raises `InvalidError` for what is not here."""
        for method, arguments, options in self.steps:
            image = getattr(image, method)(*arguments, **dict(options))
        return image


refuse_members(Mount)
