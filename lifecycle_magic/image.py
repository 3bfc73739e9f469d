"""What a container runs in, as a recipe: a base and the steps on top of it.

An `Image` is a value. Each method returns a new one, nothing is built until a container needs it,
and equal recipes have equal keys: building is looking a key up.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from lifecycle_magic.checks import check_reference, check_version, flatten, host_path, pairs
from lifecycle_magic.declined import Declined, decline
from lifecycle_magic.digests.absent import standing_in
from lifecycle_magic.digests.origin import file_of
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.hooks import is_local
from lifecycle_magic.recipes.baking import RunFunction
from lifecycle_magic.recipes.dockerfiles import Dockerfile
from lifecycle_magic.recipes.localfiles import Ignore
from lifecycle_magic.recipes.recipe import (
    AddLocalDir,
    AddLocalFile,
    AptInstall,
    FileDigests,
    PipInstall,
    RunCommand,
    SetEnv,
    Step,
    Workdir,
)
from lifecycle_magic.recipes.requirements import read_requirements

# Bump it when the same recipe comes to mean another image.
_RECIPE_VERSION = 1


@dataclass(frozen=True, repr=False)
class Image(Declined):
    """A recipe for an image. Start with `debian_slim` or `from_registry` and add steps.

    ``python`` is the minor version of `debian_slim`, and None for another base.

    ``force_build=True`` on a step has it run again whenever an image is needed that is not at work
    already: in a new session, after an edit that asks for new containers, with ``--fresh``. So do
    the steps, functions and ``@build`` hooks after it. On the base it is so for everything: of a
    Dockerfile every instruction runs again, a name is not pulled anew. Remove it when it has done
    its work.

    >>> image = Image.debian_slim().apt_install("git").pip_install("numpy", "pandas")
    >>> image = image.env({"OMP_NUM_THREADS": "1"}).workdir("/work")

    A step that can't work raises `InvalidError` where it is written.
    """

    reference: str
    python: str | None = None
    steps: tuple[Step, ...] = ()
    source: Dockerfile | None = None
    python_sources: tuple[str, ...] = ()
    functions: tuple[RunFunction, ...] = ()
    force: bool = False

    @classmethod
    def debian_slim(cls, python_version: str | None = None, *, force_build: bool = False) -> Image:
        """Debian with Python: ``python:<version>-slim``, of the same Python minor as this kernel.

        Python code does not travel between minors, so another ``python_version`` than the kernel's
        is refused; a patch release such as ``"3.12.4"`` may be asked for.
        """
        kernel = f"{sys.version_info.major}.{sys.version_info.minor}"
        version = kernel if python_version is None else python_version
        check_version(f"Image.debian_slim(python_version={version!r})", version, kernel)
        return cls(f"python:{version}-slim", kernel, force=force_build)

    @classmethod
    def from_registry(
        cls,
        tag: str,
        *,
        add_python: str | None = None,
        force_build: bool = False,
        **declined: Any,
    ) -> Image:
        """An image by its name: local to the engine, or pulled when it is first needed.

        It must have a ``python3`` of the kernel's minor version on its path.

        >>> image = Image.from_registry("python:3.11-bookworm")
        """
        decline(cls.from_registry, declined)
        if add_python is not None:
            raise InvalidError(
                f"Image.from_registry({tag!r}, add_python={add_python!r}): adding a Python to "
                "an image is not supported: name an image that has python3, or start from "
                "Image.debian_slim() and add to it what you need from the other"
            )
        check_reference(f"Image.from_registry({tag!r})", tag)
        return cls(tag, force=force_build)

    @classmethod
    def from_dockerfile(
        cls,
        path: str | os.PathLike[str],
        *,
        context_dir: str | os.PathLike[str] | None = None,
        build_args: dict[str, str] | None = None,
        add_python: str | None = None,
        force_build: bool = False,
        **declined: Any,
    ) -> Image:
        """The image that a Dockerfile builds, to add steps to; it needs a ``python3`` like any.

        ``context_dir`` is what its ``COPY`` instructions see, by default the Dockerfile's own
        folder; a ``.dockerignore`` there is followed. When the Dockerfile, a file of the context or
        an image that it starts from changes, it is built again. ``build_args`` are no place for
        secrets: everybody who has the image can read them in its history.

        >>> Image.from_dockerfile("docker/Dockerfile", context_dir=".")  # doctest: +SKIP
        """
        decline(cls.from_dockerfile, declined)
        if add_python is not None:
            raise InvalidError(
                f"Image.from_dockerfile(add_python={add_python!r}): adding a Python to an image is "
                "not supported: have the Dockerfile start FROM one with python3"
            )
        file = host_path("Image.from_dockerfile", path)
        context = (
            file.parent
            if context_dir is None
            else host_path("Image.from_dockerfile(context_dir=...)", context_dir)
        )
        args = pairs("Image.from_dockerfile(build_args=...)", build_args or {})
        source = Dockerfile(file, context, args)
        return cls(f"Dockerfile {file.name}", source=source, force=force_build)

    def imports(self) -> AbstractContextManager[None]:
        """A block for imports of what the image has, and this kernel need not have.

        What is missing here can be named in the block's code and in methods, where it is the real
        thing; using it here raises `ModuleNotFoundError`.

        >>> with Image.debian_slim().pip_install("torch").imports():  # doctest: +SKIP
        ...     import torch
        """
        return standing_in() if is_local() else nullcontext()

    def add_local_python_source(self, *modules: str | list[str], **declined: Any) -> Image:
        """Give containers these modules or packages of this machine, by the names they have here.

        They are read when a container starts and are no layer of the image: an edit is there with
        the next run of the cell. Modules beside the notebook that the class refers to travel
        without this.
        """
        decline(self.add_local_python_source, declined)
        names = flatten("Image.add_local_python_source", modules)
        for name in names:
            if file_of(name) is None:
                raise InvalidError(
                    f"Image.add_local_python_source: there is no Python source of {name!r} here: "
                    "name a module or package as an import statement does"
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
        **declined: Any,
    ) -> Image:
        """Install Python packages with pip: names, versions, URLs, as ``pip install`` takes them.

        >>> image = Image.debian_slim().pip_install("scikit-learn>=1.4", "pandas")
        """
        decline(self.pip_install, declined)
        names = flatten("Image.pip_install", packages)
        where = (find_links, index_url, extra_index_url)
        return self._with(PipInstall(names, "pip", *where, pre, extra_options, force_build))

    def uv_pip_install(
        self,
        *packages: str | list[str],
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
        **declined: Any,
    ) -> Image:
        """Install Python packages with uv: the host's own, or where that does not fit the image,
        one that pip installs into the image first.
        """
        decline(self.uv_pip_install, declined)
        names = flatten("Image.uv_pip_install", packages)
        where = (find_links, index_url, extra_index_url)
        return self._with(PipInstall(names, "uv", *where, pre, extra_options, force_build))

    def pip_install_from_requirements(
        self, requirements_txt: str | os.PathLike[str], **options: Any
    ) -> Image:
        """Install the packages that a requirements file names, with the options of `pip_install`.

        The file is read now; files that it includes with ``-r`` are too.

        >>> Image.debian_slim().pip_install_from_requirements("requirements.txt")  # doctest: +SKIP
        """
        call = "Image.pip_install_from_requirements"
        file = host_path(call, requirements_txt)
        return self.pip_install(*read_requirements(call, file), **options)

    def apt_install(
        self, *packages: str | list[str], force_build: bool = False, **declined: Any
    ) -> Image:
        """Install Debian packages, without the ones they only recommend.

        >>> image = Image.debian_slim().apt_install("git", "libgl1")
        """
        decline(self.apt_install, declined)
        return self._with(AptInstall(flatten("Image.apt_install", packages), force_build))

    def run_commands(
        self,
        *commands: str | list[str],
        env: dict[str, str] | None = None,
        force_build: bool = False,
        **declined: Any,
    ) -> Image:
        """Run shell commands as root, each one step; ``env`` is set for them alone.

        >>> image = Image.debian_slim().run_commands("mkdir /data", "echo 1 > /data/version")
        """
        decline(self.run_commands, declined)
        texts = flatten("Image.run_commands", commands)
        if not texts:
            raise InvalidError("Image.run_commands() names no command: give at least one")
        variables = pairs("Image.run_commands(env=...)", env or {})
        return self._with(*(RunCommand(text, variables, force_build) for text in texts))

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
        """Run a function once in a container of the image so far; the files it writes are kept.

        ``options`` are ``secrets``, ``volumes``, ``env``, ``cpu``, ``memory``, ``gpu``,
        ``block_network``, as of a class. It runs again when its source, its arguments or what it
        reads changes, its ``env`` or ``gpu``, where volumes are mounted, or the names that secrets
        have. Other steps go before it, further functions after it.

        >>> def fetch(name):
        ...     print("fetching", name)
        >>> image = Image.debian_slim().run_function(fetch, args=("weights",))
        """
        decline(self.run_function, {"include_source": options.pop("include_source", None)})
        known = {"secrets", "volumes", "env", "cpu", "memory", "gpu", "block_network"}
        if unknown := sorted(options.keys() - known):
            raise InvalidError(
                f"Image.run_function has no option {', '.join(unknown)}: it takes "
                f"{', '.join(sorted(known))}, args, kwargs, timeout and force_build"
            )
        given = dict(kwargs or {})
        step = RunFunction(raw_f, tuple(args), given, options, timeout, force_build)
        return replace(self, functions=(*self.functions, step))

    def env(self, variables: dict[str, str]) -> Image:
        """Set environment variables, for later steps and for every container.

        Everybody who has the image can read them; what is secret belongs into ``secrets=``.
        """
        return self._with(SetEnv(pairs("Image.env", variables)))

    def workdir(self, path: str | os.PathLike[str]) -> Image:
        """Set the folder, an absolute path, for later steps and containers; made if missing."""
        return self._with(Workdir(os.fspath(path)))

    def add_local_file(
        self, local_path: str | os.PathLike[str], remote_path: str, *, copy: bool = True
    ) -> Image:
        """Copy a file of this machine to ``remote_path``, or into it if that ends in ``/``.

        Files are copied when the image is built; ``copy`` is there for code written for Modal.
        """
        local = host_path("Image.add_local_file", local_path)
        if str(remote_path).endswith("/"):
            remote_path += local.name
        return self._with(AddLocalFile(local, remote_path))

    def add_local_dir(
        self,
        local_path: str | os.PathLike[str],
        remote_path: str,
        *,
        copy: bool = True,
        ignore: Ignore = (),
    ) -> Image:
        """Copy a folder of this machine into the image as ``remote_path``; links stay links.

        ``ignore``: patterns as in a ``.dockerignore`` file, or a function that is given each path
        below the folder and returns whether it is left out.

        >>> image = Image.debian_slim().add_local_dir(".", "/data", ignore=["**/*.tmp"])
        """
        skip = (
            ignore if callable(ignore) else flatten("Image.add_local_dir(ignore=...)", list(ignore))
        )
        return self._with(
            AddLocalDir(host_path("Image.add_local_dir", local_path), remote_path, skip)
        )

    def files(self) -> FileDigests:
        """The digests of the local files that were added, step by step; they are read now."""
        return [[file.digest() for file in step.files()] for step in self.steps]

    def key(self, base_id: str, files: FileDigests | None = None) -> str:
        """What tells this image from every other: 64 hexadecimal digits.

        ``base_id`` is the engine's id of the base; ``files`` is what `files` returned, by default
        what it returns now.
        """
        parts: list[object] = [_RECIPE_VERSION, dockerfile(self, base_id)]
        parts += self.files() if files is None else files
        if self.source is not None:
            parts.append(self.source.key())
        parts += [function.key("") for function in self.functions]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def digests(self) -> dict[str, str]:
        """A digest (hex) of each step, by its number and title; local files are read now."""
        found = {}
        for number, step in enumerate(self.steps, 1):
            told = [step.instruction(""), *(file.digest() for file in step.files())]
            digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()
            found[f"step {number}, {step.title()} (step)"] = digest
        return found

    @property
    def forced(self) -> bool:
        """Whether ``force_build`` is set on the base or on a step."""
        return self.force or any(step.force for step in self.steps)

    def recipe(self) -> Image:
        """The image without the functions that run in it."""
        return replace(self, functions=())

    def _with(self, *steps: Step) -> Image:
        if self.functions:
            raise InvalidError(
                f"Image.{steps[0].written().partition('(')[0]}: steps go before run_function: "
                f"write .{steps[0].written()} first and .{self.functions[0].written()} last"
            )
        return replace(self, steps=(*self.steps, *steps))

    def __repr__(self) -> str:
        if self.source is not None:
            start = f"Image.from_dockerfile({str(self.source.path)!r}"
        elif self.python is None:
            start = f"Image.from_registry({self.reference!r}"
        else:
            version = self.reference.removeprefix("python:").removesuffix("-slim")
            start = f"Image.debian_slim({version!r}"
        start += ", force_build=True)" if self.force else ")"
        baked = [function.written() for function in self.functions]
        sources = [f"add_local_python_source({name!r})" for name in self.python_sources]
        return "\n    .".join([start, *(step.written() for step in self.steps), *baked, *sources])


def context_name(index: int) -> str:
    """Where the files of step ``index`` lie in the build context."""
    return f"step-{index}"


def dockerfile(image: Image, base: str) -> str:
    """The Dockerfile of ``image`` on top of ``base`` (a reference or an id): a line per step.

    >>> print(dockerfile(Image.debian_slim().run_commands("make"), "python:3.11-slim"))
    FROM python:3.11-slim
    RUN ["/bin/sh", "-c", "make"]
    """
    lines = [f"FROM {base}"]
    lines += [step.instruction(context_name(i)) for i, step in enumerate(image.steps)]
    return "\n".join(lines) + "\n"
