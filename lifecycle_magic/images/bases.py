"""The bases of images: Debian with Python, an image by its name, a Dockerfile."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle_magic.checks import check_reference, check_version, flatten, host_path, pairs
from lifecycle_magic.images.dockerfiles import Dockerfile, SetupCommands
from lifecycle_magic.images.local_files import Ignore
from lifecycle_magic.images.recipe import KERNEL_PYTHON
from lifecycle_magic.images.unsupported import decline

if TYPE_CHECKING:
    from lifecycle_magic.images.image import Image

__all__ = ["Bases"]


class Bases:
    """Methods of `Image` that begin a recipe."""

    @classmethod
    def debian_slim(
        cls: Any, python_version: str | None = None, force_build: bool = False
    ) -> Image:
        """Return Debian with Python: ``python:<version>-slim``, by default with this kernel's minor
        version.

        ``python_version`` is a minor version from 3.10 to 3.14, or one of their patch releases,
        such as ``"3.12.4"``. Code travels as source text to another minor version.

        >>> from lifecycle_magic import Image
        >>> image = Image.debian_slim()
        """
        version = KERNEL_PYTHON if python_version is None else python_version
        minor = check_version(f"Image.debian_slim(python_version={version!r})", version)
        image: Image = cls(f"python:{version}-slim", minor, force=force_build)
        return image

    @classmethod
    def from_registry(
        cls: Any,
        tag: str,
        secret: Any = None,
        *,
        add_python: str | None = None,
        setup_dockerfile_commands: Sequence[str] = (),
        force_build: bool = False,
        **declined: Any,
    ) -> Image:
        """Return an image by its name: it is local to the engine, or pulled when it is first
        needed.

        It must have a ``python3`` from 3.10 to 3.14 on its path, or get one: ``add_python="3.12"``
        copies that Python of this machine to ``/usr/local``. uv fetches one if it is not here.
        ``setup_dockerfile_commands`` are Dockerfile instructions that run first, such as a ``RUN``
        that installs a Python.

        >>> from lifecycle_magic import Image
        >>> image = Image.from_registry("python:3.11-bookworm")
        """
        decline(cls.from_registry, {"secret": secret, **declined})
        call = f"Image.from_registry({tag!r}"
        check_reference(f"{call})", tag)
        if add_python is not None:
            check_version(f"{call}, add_python={add_python!r})", add_python)
        commands = flatten(
            f"{call}, setup_dockerfile_commands=...)", [setup_dockerfile_commands or ()]
        )
        title = Path("setup_dockerfile_commands")  # there is no file, and no context
        source = SetupCommands(title, title, base=tag, commands=commands) if commands else None
        image: Image = cls(tag, source=source, force=force_build, added_python=add_python)
        return image

    @classmethod
    def from_dockerfile(
        cls: Any,
        path: str | os.PathLike[str],
        *,
        context_dir: str | os.PathLike[str] | None = None,
        build_args: dict[str, str] | None = None,
        add_python: str | None = None,
        ignore: Ignore | None = None,
        force_build: bool = False,
        **declined: Any,
    ) -> Image:
        """Return the image that a Dockerfile builds, ready for further steps.

        It needs a ``python3`` from 3.10 to 3.14, or gets one by ``add_python``. ``context_dir`` is
        the folder that its ``COPY`` reads, by default the Dockerfile's own; a ``.dockerignore``
        there applies, or instead of it ``ignore``, as in `add_local_dir`. The image is built again
        when the Dockerfile, a file of the context or an image that it starts from changes.
        ``build_args`` must not hold secrets: everyone who has the image can read them in its
        history.

        >>> Image.from_dockerfile("docker/Dockerfile", context_dir=".")  # doctest: +SKIP
        """
        decline(cls.from_dockerfile, declined)
        if add_python is not None:
            check_version(f"Image.from_dockerfile(add_python={add_python!r})", add_python)
        file = host_path("Image.from_dockerfile", path)
        context = (
            file.parent
            if context_dir is None
            else host_path("Image.from_dockerfile(context_dir=...)", context_dir)
        )
        args = pairs("Image.from_dockerfile(build_args=...)", build_args or {})
        skip = (
            ignore
            if ignore is None or callable(ignore)
            else flatten("Image.from_dockerfile(ignore=...)", [list(ignore)])
        )
        source = Dockerfile(file, context, args, skip)
        image: Image = cls(
            f"Dockerfile {file.name}", source=source, force=force_build, added_python=add_python
        )
        return image
