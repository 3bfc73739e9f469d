"""Steps of Modal's images that are made of other steps here, or that change nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeVar

from lifecycle_magic.callers.methods_with_aio import with_aio
from lifecycle_magic.checks import flatten, host_path
from lifecycle_magic.decorators.travel import is_local
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.images import dockerfile_lines, projects
from lifecycle_magic.images.imports_block import ImportsBlock
from lifecycle_magic.images.local_files import Ignore
from lifecycle_magic.images.step_access import StepAccess
from lifecycle_magic.images.unsupported import decline, ignore_options
from lifecycle_magic.secret import Secret

if TYPE_CHECKING:
    from lifecycle_magic.images.image import Image

__all__ = ["ModalSteps"]

T = TypeVar("T")
_POETRY = "/tmp/poetry"
_POETRY_INSTALL = "poetry config virtualenvs.create false && poetry install --no-root --no-cache"
_CONDA_PACKAGE = re.compile(r"[A-Za-z0-9][\w.:/\[\]=<>!~*,| +-]*", re.ASCII)


class ModalSteps:
    """Methods of `Image` that are built from its other steps."""

    def entrypoint(self: Any, entrypoint_commands: list[str]) -> Image:
        """Accept an empty entry point, which is what a container has here: it runs the class.

        Raises `InvalidError` for any other.
        """
        image: Image = self._without_command("entrypoint", entrypoint_commands)
        return image

    def cmd(self: Any, cmd: list[str]) -> Image:
        """Accept an empty command, which is what a container has here: it runs the class.

        Raises `InvalidError` for any other.
        """
        image: Image = self._without_command("cmd", cmd)
        return image

    def _without_command(self: Any, name: str, command: object) -> Image:
        if command != []:
            raise InvalidError(
                f"Image.{name}: a container runs the class, so {command!r} would not run. "
                "Fix: start what has to run before it in an @enter hook"
            )
        image: Image = self
        return image

    def imports(self: Any) -> AbstractContextManager[None]:
        """Return a block for imports of packages that the image has and this kernel may lack.

        A package that is missing here can be named in the block's code, in annotations and in
        methods, which run in the container with the real package; using it here raises
        `ModuleNotFoundError`. An installed package is imported. A ``try`` statement in the block
        that handles a failed import is decided in the image.

        >>> with Image.debian_slim().pip_install("torch").imports():  # doctest: +SKIP
        ...     import torch
        """
        return ImportsBlock() if is_local() else nullcontext()

    def shell(self: Any, shell_commands: Sequence[str]) -> Image:
        """Run the commands of later steps in another shell, such as ``["/bin/bash", "-c"]``.

        A command is the word after these. Raises `InvalidError` for what is no list of words.

        >>> from lifecycle_magic import Image
        >>> image = Image.debian_slim().shell(["/bin/bash", "-c"]).run_commands("type -t [[")
        """
        words = () if isinstance(shell_commands, str) else flatten("Image.shell", [shell_commands])
        if not words:
            raise InvalidError(
                f"Image.shell takes the words before a command, not {shell_commands!r}. "
                'Fix: write .shell(["/bin/bash", "-c"])'
            )
        image: Image = replace(self, command_shell=words)
        return image

    def pipe(self: Any, func: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return ``func(image, *args, **kwargs)``, which lets a function add several steps.

        >>> from lifecycle_magic import Image
        >>> def with_tools(image, *names):
        ...     return image.apt_install("git").pip_install(*names)
        >>> image = Image.debian_slim().pipe(with_tools, "six")
        """
        return func(self, *args, **kwargs)

    @with_aio
    def build(self: Any, app: Any = None) -> Image:
        """Return the image: it is built when a class first needs it."""
        image: Image = self
        return image

    def pip_install_from_pyproject(
        self: Any,
        pyproject_toml: str | os.PathLike[str],
        optional_dependencies: Sequence[str] = (),
        **options: Any,
    ) -> Image:
        """Install the dependencies of a ``pyproject.toml``, with the options of `pip_install`.

        ``optional_dependencies`` are the names of extras. The project itself is not installed. The
        file is read now.
        """
        call = "Image.pip_install_from_pyproject"
        extras = flatten(call, [list(optional_dependencies)])
        found = projects.of_pyproject(call, host_path(call, pyproject_toml), extras)
        image: Image = self.pip_install(*found, **options)
        return image

    def uv_sync(
        self: Any,
        uv_project_dir: str | os.PathLike[str] = "./",
        *,
        groups: list[str] | None = None,
        extras: list[str] | None = None,
        frozen: bool = True,
        extra_options: str = "",
        force_build: bool = False,
        env: dict[str, str] | None = None,
        secrets: Sequence[Secret] = (),
        gpu: Any = None,
        **declined: Any,
    ) -> Image:
        """Install the dependencies of a uv project, in the versions of its ``uv.lock`` if it has
        one.

        They are installed into the image's Python, without the project itself. ``frozen=False``
        does not update the lock. The files are read now.
        """
        decline(self.uv_sync, declined)
        call = "Image.uv_sync"
        folder = host_path(call, uv_project_dir)
        chosen = [flatten(call, [list(names or ())]) for names in (extras, groups)]
        if (folder / "uv.lock").is_file():
            found = projects.locked_by_uv(call, folder, *chosen)
        else:
            found = projects.of_pyproject(call, folder / "pyproject.toml", *chosen)
        image: Image = self.uv_pip_install(
            *found,
            extra_options=extra_options,
            force_build=force_build,
            env=env,
            secrets=secrets,
            gpu=gpu,
        )
        return image

    def poetry_install_from_file(
        self: Any,
        poetry_pyproject_toml: str | os.PathLike[str],
        poetry_lockfile: str | os.PathLike[str] | None = None,
        *,
        ignore_lockfile: bool = False,
        force_build: bool = False,
        with_: Sequence[str] = (),
        without: Sequence[str] = (),
        only: Sequence[str] = (),
        poetry_version: str | None = "latest",
        old_installer: bool = False,
        env: dict[str, str] | None = None,
        secrets: Sequence[Secret] = (),
        gpu: Any = None,
        **declined: Any,
    ) -> Image:
        """Install the dependencies of a poetry project with poetry, which pip installs first.

        The lock is by default ``poetry.lock`` next to the file. The project itself is not
        installed. ``poetry_version=None`` uses a poetry that the image has.
        """
        decline(self.poetry_install_from_file, declined)
        call = "Image.poetry_install_from_file"
        file = host_path(call, poetry_pyproject_toml)
        image: Image = self
        if poetry_version is not None:
            version = "" if poetry_version == "latest" else f"=={poetry_version}"
            image = image.pip_install(f"poetry{version}")
        if not ignore_lockfile:
            lock = host_path(call, poetry_lockfile or file.parent / "poetry.lock")
            if not lock.is_file():
                raise InvalidError(
                    f"{call}: there is no {str(lock)!r}. Fix: run poetry lock, or give "
                    "ignore_lockfile=True"
                )
            image = image.add_local_file(lock, f"{_POETRY}/poetry.lock")
        image = image.add_local_file(file, f"{_POETRY}/pyproject.toml")
        chosen = (("--with", with_), ("--without", without), ("--only", only))
        words = [f"{option}={','.join(flatten(call, [list(n)]))}" for option, n in chosen if n]
        return image.run_commands(
            " ".join([f"cd {_POETRY} &&", _POETRY_INSTALL, *words]),
            env=env,
            secrets=secrets,
            gpu=gpu,
            force_build=force_build,
        )

    def dockerfile_commands(
        self: Any,
        *dockerfile_commands: str | list[str],
        context_files: Mapping[str, str] | None = None,
        context_dir: str | os.PathLike[str] | None = None,
        ignore: Ignore = (),
        env: dict[str, str] | None = None,
        secrets: Sequence[Secret] = (),
        gpu: Any = None,
        force_build: bool = False,
        **declined: Any,
    ) -> Image:
        """Add Dockerfile instructions. ``COPY`` reads ``context_dir``, by default this folder.

        ``context_files`` maps names in ``COPY`` to local files. ``RUN``, ``ENV``, ``WORKDIR`` and
        ``COPY`` of plain files work on every engine; others need Docker. ``secrets`` are variables
        of the ``RUN`` instructions. Raises `InvalidError` for an instruction that can't be a step.
        """
        decline(self.dockerfile_commands, declined)
        ignore_options("dockerfile_commands", gpu=gpu)
        call = "Image.dockerfile_commands"
        commands = flatten(call, dockerfile_commands)
        folder = host_path(call, context_dir or ".")
        files = {name: host_path(call, path) for name, path in (context_files or {}).items()}
        access = StepAccess.of(call, secrets)
        context = dockerfile_lines.BuildContext(folder, files, ignore, self.known_workdir())
        given = dockerfile_lines.steps_of(commands, context, force_build, access)
        image: Image = self.with_steps(*given)
        return image

    @classmethod
    def micromamba(cls: Any, python_version: str | None = None, force_build: bool = False) -> Image:
        """Return an image with micromamba, and Python from conda-forge in its base environment."""
        start: Image = cls.from_registry("mambaorg/micromamba:latest", force_build=force_build)
        version = python_version or cls.debian_slim().python_version
        cls.debian_slim(version)  # the same versions are allowed
        path = "/opt/conda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return start.env({"PATH": path}).run_commands(
            f"micromamba install -n base -y python={version} pip -c conda-forge"
        )

    def micromamba_install(
        self: Any,
        *packages: str | list[str],
        spec_file: str | os.PathLike[str] | None = None,
        channels: Sequence[str] = (),
        force_build: bool = False,
        env: dict[str, str] | None = None,
        secrets: Sequence[Secret] = (),
        gpu: Any = None,
        **declined: Any,
    ) -> Image:
        """Install conda packages into an image that starts with `micromamba`."""
        import shlex

        decline(self.micromamba_install, declined)
        call = "Image.micromamba_install"
        names = flatten(call, packages)
        image: Image = self
        if not names and spec_file is None:
            return image
        words = ["micromamba", "install", "-n", "base", "-y", *names]
        for name in (*names, *channels):
            if not _CONDA_PACKAGE.fullmatch(name):
                raise InvalidError(f"{call}: {name!r} is no name of a package or channel")
        if spec_file is not None:
            file = host_path(call, spec_file)
            image = image.add_local_file(file, f"/tmp/micromamba/{file.name}")
            words += ["-f", f"/tmp/micromamba/{file.name}"]
        for channel in channels:
            words += ["-c", channel]
        return image.run_commands(
            shlex.join(words), env=env, secrets=secrets, gpu=gpu, force_build=force_build
        )


def relative_target(call: str, remote: Any, workdir: str) -> Any:
    """Return the absolute path of ``remote``, which may be relative to the working folder."""
    remote = remote.as_posix() if isinstance(remote, PurePath) else remote
    if not isinstance(remote, str) or remote.startswith("/"):
        return remote
    if not workdir:
        raise InvalidError(
            f"{call}: {remote!r} is no absolute path. Fix: start it with '/', or add "
            ".workdir('/...') before it"
        )
    joined = (Path(workdir) / remote).as_posix()
    return joined + ("/" if remote.endswith("/") or remote in (".", "./", "") else "")
