"""Images as recipes: a base and the steps on top of it.

An `Image` is a value. Each method returns a new one, nothing is built until a container needs it,
and equal recipes have equal keys, so that an image is built once and then found by its key.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lifecycle_magic.callers.methods_with_aio import with_aio
from lifecycle_magic.checks import flatten, host_path, pairs
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.fingerprint.origin import file_of
from lifecycle_magic.images.bases import Bases
from lifecycle_magic.images.local_files import Ignore
from lifecycle_magic.images.modal_steps import ModalSteps, relative_target
from lifecycle_magic.images.old_steps import OldSteps
from lifecycle_magic.images.package_steps import AptInstall, PipInstall
from lifecycle_magic.images.recipe import Recipe
from lifecycle_magic.images.requirements import read_requirements
from lifecycle_magic.images.run_function import RunFunction
from lifecycle_magic.images.step_access import StepAccess
from lifecycle_magic.images.steps import AddLocalDir, AddLocalFile, RunCommand, SetEnv, Workdir
from lifecycle_magic.images.unsupported import decline, ignore_options
from lifecycle_magic.modal_api.table import check_keywords, refuse_members
from lifecycle_magic.secret import Secret
from lifecycle_magic.volume import Volume


@dataclass(frozen=True, repr=False)
class Image(Bases, ModalSteps, OldSteps, Recipe):
    """A recipe for an image. Start with `debian_slim` or `from_registry` and add steps.

    ``python`` is the minor version of `debian_slim`, and None for another base.

    ``force_build=True`` on a step runs the step again whenever an image is needed that is not in
    use already: in a new session, after an edit that needs new containers, with ``--fresh``. All
    steps, functions and ``@build`` hooks after it run again too. On the base it applies to
    everything: every instruction of a Dockerfile runs again, but a name is not pulled again. Remove
    ``force_build`` after the build.

    >>> image = Image.debian_slim().apt_install("git").pip_install("numpy", "pandas")
    >>> image = image.env({"OMP_NUM_THREADS": "1"}).workdir("/work")

    A step that can't work raises `InvalidError` where it is written.
    """

    def add_local_python_source(
        self,
        *modules: str | list[str],
        copy: bool = False,
        ignore: Ignore = (),
        **declined: Any,
    ) -> Image:
        """Give containers these local modules or packages, under the names they have here.

        They are read when a container starts and are no layer of the image, so an edit takes effect
        with the next run of the cell. Modules next to the notebook that the class refers to travel
        without this. ``copy`` and ``ignore`` exist for code written for Modal and are ignored with
        a warning: a package travels as a whole, except hidden and compiled files, and steps of the
        image do not see it.
        """
        decline(self.add_local_python_source, declined)
        ignore_options("add_local_python_source", copy=copy or None, ignore=ignore or None)
        names = flatten("Image.add_local_python_source", modules)
        for name in names:
            if file_of(name) is None:
                raise InvalidError(
                    f"Image.add_local_python_source: there is no Python source of {name!r} here. "
                    "Fix: name a module or package as an import statement does"
                )
        return replace(self, python_sources=(*self.python_sources, *names))

    def pip_install(
        self,
        *packages: str | list[str],
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
        env: dict[str, str] | None = None,
        secrets: Sequence[Secret] = (),
        gpu: Any = None,
        **declined: Any,
    ) -> Image:
        """Install Python packages with pip. Names, versions and URLs are written as for ``pip
        install``.

        ``env`` and ``secrets`` are set for this step alone, and no image keeps ``secrets``: give an
        index with a password as a secret ``PIP_INDEX_URL`` or ``UV_INDEX_URL``. Without a package
        the image stays as it is. Raises `InvalidError` for what pip would read as an option, and
        for a URL with a password.

        >>> image = Image.debian_slim().pip_install("scikit-learn>=1.4", "pandas")
        """
        decline(self.pip_install, declined)
        ignore_options("pip_install", gpu=gpu)
        names = flatten("Image.pip_install", packages)
        where = (find_links, index_url, extra_index_url)
        variables = pairs("Image.pip_install(env=...)", env or {})
        if not names:
            return self
        access = StepAccess.of("Image.pip_install", secrets)
        step = PipInstall(names, "pip", *where, pre, extra_options, force_build, variables, access)
        return self.with_steps(step)

    def uv_pip_install(
        self,
        *packages: str | list[str],
        requirements: list[str] | None = None,
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
        uv_version: str | None = None,
        env: dict[str, str] | None = None,
        secrets: Sequence[Secret] = (),
        gpu: Any = None,
        **declined: Any,
    ) -> Image:
        """Install Python packages with uv.

        ``requirements`` are paths of requirements files, which are read now. The host's own uv is
        used; where it does not fit the image, pip first installs one into the image.

        >>> image = Image.debian_slim().uv_pip_install("scikit-learn>=1.4", "pandas")
        """
        decline(self.uv_pip_install, declined)
        ignore_options("uv_pip_install", gpu=gpu, uv_version=uv_version)
        call = "Image.uv_pip_install"
        names = flatten(call, packages)
        for path in flatten(f"{call}(requirements=...)", [requirements or []]):
            names += read_requirements(call, host_path(call, path))
        where = (find_links, index_url, extra_index_url)
        variables = pairs(f"{call}(env=...)", env or {})
        if not names:
            return self
        access = StepAccess.of(call, secrets)
        step = PipInstall(names, "uv", *where, pre, extra_options, force_build, variables, access)
        return self.with_steps(step)

    def pip_install_from_requirements(
        self,
        requirements_txt: str | os.PathLike[str],
        find_links: str | None = None,
        **options: Any,
    ) -> Image:
        """Install the packages of a requirements file, with the options of `pip_install`.

        The file, and the files that it includes with ``-r``, are read now.

        >>> Image.debian_slim().pip_install_from_requirements("requirements.txt")  # doctest: +SKIP
        """
        call = "Image.pip_install_from_requirements"
        file = host_path(call, requirements_txt)
        return self.pip_install(*read_requirements(call, file), find_links=find_links, **options)

    def apt_install(
        self,
        *packages: str | list[str],
        force_build: bool = False,
        env: dict[str, str] | None = None,
        secrets: Sequence[Secret] = (),
        gpu: Any = None,
        **declined: Any,
    ) -> Image:
        """Install Debian packages, without the packages they only recommend.

        ``env`` is set meanwhile.

        >>> image = Image.debian_slim().apt_install("git", "libgl1")
        """
        decline(self.apt_install, declined)
        ignore_options("apt_install", gpu=gpu)
        names = flatten("Image.apt_install", packages)
        access = StepAccess.of("Image.apt_install", secrets)
        variables = pairs("Image.apt_install(env=...)", env or {})
        return self.with_steps(AptInstall(names, force_build, access, variables)) if names else self

    def run_commands(
        self,
        *commands: str | list[str],
        env: dict[str, str] | None = None,
        force_build: bool = False,
        secrets: Sequence[Secret] = (),
        volumes: dict[str, Volume] | None = None,
        gpu: Any = None,
        **declined: Any,
    ) -> Image:
        """Run shell commands as root, each as one step; ``env`` is set for these commands only.

        ``secrets`` are variables of these commands that no image, history or log keeps; a command
        that writes the value of one (8 characters or more) to a file of the image fails.
        ``volumes`` are mounted meanwhile, by their paths. The commands run again when the names of
        the secrets or the paths of the volumes change.

        >>> image = Image.debian_slim().run_commands("mkdir /data", "echo 1 > /data/version")
        """
        decline(self.run_commands, declined)
        ignore_options("run_commands", gpu=gpu)
        texts = flatten("Image.run_commands", commands)
        variables = pairs("Image.run_commands(env=...)", env or {})
        access = StepAccess.of("Image.run_commands", secrets, volumes)
        return self.with_steps(
            *(
                RunCommand(text, variables, force_build, access, self.command_shell)
                for text in texts
            )
        )

    def run_function(
        self,
        raw_f: Callable[..., Any],
        *,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
        timeout: float | None = None,
        force_build: bool = False,
        **options: Any,
    ) -> Image:
        """Run a function once in a container of the image so far and keep the files it writes.

        ``options`` are ``secrets``, ``volumes``, ``env``, ``cpu``, ``memory``, ``gpu`` and
        ``block_network``, as for a class; ``timeout`` is in seconds. The function runs again when
        its source, its arguments or what it reads changes, and when its ``env`` or ``gpu``, the
        mount paths of its volumes or the names of its secrets change, and when a step before it
        changes; a change of a later step does not run it again.

        >>> def fetch(name):
        ...     print("fetching", name)
        >>> image = Image.debian_slim().run_function(fetch, args=("weights",))
        """
        known = ("secrets", "volumes", "env", "cpu", "memory", "gpu", "block_network")
        start, options = self.with_old_options(options)
        others = {name: options.pop(name) for name in [*options] if name not in known}
        takes = (*known, "args", "kwargs", "timeout", "force_build")
        check_keywords("Image.run_function", others, takes)
        given = dict(kwargs or {})
        return start.with_steps(
            RunFunction(raw_f, tuple(args), given, options, timeout, force_build)
        )

    def env(self, vars: dict[str, str]) -> Image:
        """Set environment variables for later steps and for every container.

        Everyone who has the image can read them; pass secrets with ``secrets=``.

        >>> image = Image.debian_slim().env({"OMP_NUM_THREADS": "1"})
        """
        return self.with_steps(SetEnv(pairs("Image.env", vars)))

    def workdir(self, path: str | os.PathLike[str]) -> Image:
        """Set the working folder, an absolute path, for later steps and containers; create it if
        missing.
        """
        given: object = path
        if not isinstance(given, str | os.PathLike):
            raise InvalidError(
                f"Image.workdir takes an absolute path, not {path!r}. Fix: write .workdir('/app')"
            )
        return self.with_steps(Workdir(os.fspath(path)))

    def add_local_file(
        self, local_path: str | os.PathLike[str], remote_path: str, *, copy: bool = True
    ) -> Image:
        """Copy a local file to ``remote_path``, or into that folder if it ends in ``/``.

        A relative ``remote_path`` starts at the last `workdir`. Files are copied when the image is
        built; ``copy`` exists for code written for Modal.
        """
        local = host_path("Image.add_local_file", local_path)
        remote_path = relative_target("Image.add_local_file", remote_path, self.known_workdir())
        if str(remote_path).endswith("/"):
            remote_path += local.name
        return self.with_steps(AddLocalFile(local, remote_path))

    def add_local_dir(
        self,
        local_path: str | os.PathLike[str],
        remote_path: str,
        *,
        copy: bool = True,
        ignore: Ignore = (),
    ) -> Image:
        """Copy a local folder into the image as ``remote_path``; links stay links.

        A relative ``remote_path`` starts at the last `workdir`. ``ignore`` is a list of patterns as
        in a ``.dockerignore`` file, or a function that gets the path of each file relative to the
        folder and returns whether it is excluded, such as a `FilePatternMatcher`.

        >>> image = Image.debian_slim().add_local_dir(".", "/data", ignore=["**/*.tmp"])
        """
        skip = (
            ignore if callable(ignore) else flatten("Image.add_local_dir(ignore=...)", list(ignore))
        )
        return self.with_steps(
            AddLocalDir(
                host_path("Image.add_local_dir", local_path),
                relative_target("Image.add_local_dir", remote_path, self.known_workdir()),
                skip,
            )
        )

    def __dir__(self) -> list[str]:
        return sorted(_PUBLIC)

    @with_aio
    def hydrate(self, client: Any = None) -> Image:
        """Return the image: it is built when a class first needs it."""
        return self


refuse_members(Image)

_PUBLIC = (
    *("debian_slim", "from_registry", "from_dockerfile", "imports"),
    *("pip_install", "uv_pip_install", "pip_install_from_requirements", "apt_install"),
    *("pip_install_from_pyproject", "uv_sync", "poetry_install_from_file", "pipe", "build"),
    *("micromamba", "micromamba_install", "dockerfile_commands", "entrypoint", "cmd"),
    *("run_commands", "run_function", "env", "workdir"),
    *("shell", "add_local_file", "add_local_dir", "add_local_python_source"),
)
"""The names that completion offers: engines read the others."""
