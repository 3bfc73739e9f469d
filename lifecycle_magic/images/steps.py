"""The steps of an image: each is checked when it is written, and is one Dockerfile instruction.

`Recipe` (in `lifecycle_magic.images.recipe`) combines the steps.
"""

from __future__ import annotations

import re
import shlex
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from lifecycle_magic.checks import (
    check_remote,
    check_text,
    check_variables,
    matches,
    refuse_credentials,
)
from lifecycle_magic.exception import BuildError, InvalidError
from lifecycle_magic.images import instructions
from lifecycle_magic.images.local_files import LocalFile, found_below, name_of, names_below
from lifecycle_magic.images.step_access import NO_ACCESS, StepAccess

FileDigests = list[list[str]]
"""For each step of a recipe, the digests of its local files: `LocalFile.digest`."""

_APT_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?([=/][A-Za-z0-9.+:~-]+)?")
# Any string that is not blank and has no NUL.
_COMMAND = re.compile(r"(?!\s*\Z)[^\0]+")
_SEVERAL_WORDS = re.compile(r"[\w.-]+(\s+[\w.-]+)+")

# No distribution manages the image's Python, so pip may write where it would refuse to.
_PIP_ENV = (
    "PIP_BREAK_SYSTEM_PACKAGES=1",
    "PIP_ROOT_USER_ACTION=ignore",
    "PIP_DISABLE_PIP_VERSION_CHECK=1",
)
_PIP = (
    *("env", *_PIP_ENV, "python3", "-m", "pip", "install"),
    *("--no-cache-dir", "--no-input", "--progress-bar=off"),
)
_UV = ("python3", "-m", "uv", "pip", "install", "--system", "--break-system-packages", "--no-cache")


class Step(Protocol):
    """One step of a recipe, a frozen value.

    ``force`` runs the step, and all steps after it, again with every build. It is no part of a key,
    because it does not change the content of the image.
    """

    @property
    def force(self) -> bool: ...

    @property
    def access(self) -> StepAccess:
        """Return the secrets and volumes that it is given while it runs."""

    def title(self) -> str:
        """Return a human-readable name of one line."""

    def written(self) -> str:
        """Return the call on `Image` that creates the step."""

    def instruction(self, context: str) -> str:
        """Return the Dockerfile instruction; ``context`` is the step's folder in the build
        context.
        """

    def files(self) -> Iterator[LocalFile]:
        """Yield the files of this host that the step needs, read now."""


def check_unchanged(step: Step, sent: Sequence[str], keyed: Sequence[str]) -> None:
    """Raise `BuildError` if files changed between the computation of the key and the build.

    ``sent`` are the digests of the files in the build, ``keyed`` those in the key.
    """
    if odd := set(sent) ^ set(keyed):
        names = sorted({name_of(digest) for digest in odd} - {""})
        which = f" ({', '.join(names[:4])})" if names else ""
        raise BuildError(
            f"{step.title()}: its files{which} changed during the build, so nothing was kept. "
            "Fix: run the cell again when the files are complete"
        )


class _Plain:
    force = False
    access = NO_ACCESS


class _NoFiles:
    def files(self) -> Iterator[LocalFile]:
        return iter(())


@dataclass(frozen=True)
class PipInstall(_NoFiles):
    """Python packages, installed by pip or by uv (which pip then installs first)."""

    packages: tuple[str, ...]
    tool: Literal["pip", "uv"] = "pip"
    find_links: str | None = None
    index_url: str | None = None
    extra_index_url: str | None = None
    pre: bool = False
    extra_options: str = ""
    force: bool = False
    env: tuple[tuple[str, str], ...] = ()
    access: StepAccess = NO_ACCESS

    def __post_init__(self) -> None:
        name = "pip_install" if self.tool == "pip" else "uv_pip_install"
        call = f"Image.{name}"
        if not self.packages:
            raise InvalidError(
                f"{call}() names no package. Fix: name at least one, as in .{name}('numpy')"
            )
        for package in self.packages:
            check_text(call, "a package", package)
            if package.startswith("-"):
                raise InvalidError(
                    f"{call}: {package!r} is an option, not a package. "
                    f"Fix: give options as .{name}(..., extra_options={package!r})"
                )
            if _SEVERAL_WORDS.fullmatch(package):
                listed = ", ".join(map(repr, package.split()))
                raise InvalidError(
                    f"{call}: {package!r} is several packages in one string. Fix: write {listed}"
                )
        for option in ("find_links", "index_url", "extra_index_url"):
            if (value := getattr(self, option)) is not None:
                check_text(call, option, value)
        refuse_credentials(
            call,
            *self.packages,
            self.find_links,
            self.index_url,
            self.extra_index_url,
            self.extra_options,
            *(value for _, value in self.env),
        )
        try:
            shlex.split(self.extra_options)
        except (ValueError, AttributeError) as error:
            raise InvalidError(
                f"{call}: extra_options={self.extra_options!r} can't be split into options "
                f"({error}). Fix: close the quotes, and give one string such as '--no-deps --pre'"
            ) from None

    def options(self) -> list[str]:
        """Return the options after ``pip install``, which uv accepts too."""
        options = []
        if self.find_links:
            options.append(f"--find-links={self.find_links}")
        if self.index_url:
            options.append(f"--index-url={self.index_url}")
        if self.extra_index_url:
            options.append(f"--extra-index-url={self.extra_index_url}")
        if self.pre:
            options.append("--pre")
        return options + shlex.split(self.extra_options)

    def title(self) -> str:
        tool = "pip" if self.tool == "pip" else "uv pip"
        return _one_line(f"{tool} install {shlex.join([*self.options(), *self.packages])}")

    def written(self) -> str:
        given = [repr(package) for package in self.packages]
        for name in ("find_links", "index_url", "extra_index_url", "pre", "extra_options"):
            if value := getattr(self, name):
                given.append(f"{name}={value!r}")
        given += [f"env={dict(self.env)!r}"] if self.env else []
        given += [*_forced(self), *self.access.written()]
        return f"{'uv_' if self.tool == 'uv' else ''}pip_install({', '.join(given)})"

    def instruction(self, context: str) -> str:
        wanted = [*self.options(), *self.packages]
        env = ["env", *(f"{name}={value}" for name, value in self.env)] if self.env else []
        if self.tool == "pip":
            return instructions.run(*env, *_PIP, *wanted)
        script = (
            f"python3 -m uv --version >/dev/null 2>&1 || {shlex.join([*_PIP, 'uv'])} && "
            f'exec {shlex.join(_UV)} "$@"'
        )
        return instructions.run(*env, "/bin/sh", "-c", script, "sh", *wanted)


@dataclass(frozen=True)
class AptInstall(_NoFiles):
    """Debian packages with their dependencies, without the packages they only recommend."""

    packages: tuple[str, ...]
    force: bool = False
    access: StepAccess = NO_ACCESS

    def __post_init__(self) -> None:
        if not self.packages:
            raise InvalidError(
                "Image.apt_install() names no package. Fix: name one, as in .apt_install('git')"
            )
        for package in self.packages:
            if not matches(_APT_PACKAGE, package):
                raise InvalidError(
                    f"Image.apt_install: {package!r} is not a valid name of a Debian package. "
                    "Fix: give one name per argument, such as 'git' or 'git=1:2.39.5-0+deb12u2'"
                )

    def title(self) -> str:
        return _one_line(f"apt-get install {' '.join(self.packages)}")

    def written(self) -> str:
        given = [*map(repr, self.packages), *_forced(self), *self.access.written()]
        return f"apt_install({', '.join(given)})"

    def instruction(self, context: str) -> str:
        script = (
            "export DEBIAN_FRONTEND=noninteractive && apt-get update -q && "
            'apt-get install -q -y --no-install-recommends -- "$@" && '
            "rm -rf /var/lib/apt/lists/*"
        )
        return instructions.run("/bin/sh", "-c", script, "sh", *self.packages)


@dataclass(frozen=True)
class RunCommand(_NoFiles):
    """One shell command; ``env`` is set for it alone and can be read from the image's history."""

    command: str
    env: tuple[tuple[str, str], ...] = ()
    force: bool = False
    access: StepAccess = NO_ACCESS

    def __post_init__(self) -> None:
        if not matches(_COMMAND, self.command):
            raise InvalidError(
                f"Image.run_commands: {self.command!r} is no command. Fix: give one string per "
                "command, as in .run_commands('make', 'make install')"
            )
        check_variables("Image.run_commands(env=...)", self.env)
        refuse_credentials("Image.run_commands", self.command, *(value for _, value in self.env))

    def title(self) -> str:
        return _one_line(self.command)

    def written(self) -> str:
        env = [f"env={dict(self.env)!r}"] if self.env else []
        given = [repr(self.command), *env, *_forced(self), *self.access.written()]
        return f"run_commands({', '.join(given)})"

    def instruction(self, context: str) -> str:
        env = ["env", *(f"{name}={value}" for name, value in self.env)] if self.env else []
        return instructions.run(*env, "/bin/sh", "-c", self.command)


@dataclass(frozen=True)
class DockerfileLine(_NoFiles):
    """One instruction that only a Docker engine can carry out, as it was written."""

    line: str
    force: bool = False
    access = NO_ACCESS

    def title(self) -> str:
        return _one_line(self.line)

    def written(self) -> str:
        return f"dockerfile_commands({', '.join([repr(self.line), *_forced(self)])})"

    def instruction(self, context: str) -> str:
        return self.line


@dataclass(frozen=True)
class SetEnv(_NoFiles, _Plain):
    """Environment variables of the image, seen by later steps and by every container."""

    variables: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        if not self.variables:
            raise InvalidError("Image.env({}) sets nothing. Fix: give at least one variable")
        check_variables("Image.env", self.variables)
        for name, value in self.variables:
            refuse_credentials("Image.env", value)
            if "\n" in value or "\r" in value:
                raise InvalidError(
                    f"Image.env: {name} has a line break, which an image's environment can't keep. "
                    "Fix: use secrets=[Secret.from_dict({...})] on the class, or a file"
                )

    def title(self) -> str:
        return _one_line(
            "env " + " ".join(f"{name}={shlex.quote(v)}" for name, v in self.variables)
        )

    def written(self) -> str:
        return f"env({dict(self.variables)!r})"

    def instruction(self, context: str) -> str:
        return instructions.env(self.variables)


@dataclass(frozen=True)
class Workdir(_NoFiles, _Plain):
    """The folder in which later steps and the user's code run; created if it is missing."""

    path: str

    def __post_init__(self) -> None:
        check_remote("Image.workdir", self.path)

    def title(self) -> str:
        return f"workdir {self.path}"

    def written(self) -> str:
        return f"workdir({self.path!r})"

    def instruction(self, context: str) -> str:
        return instructions.workdir(self.path)


@dataclass(frozen=True)
class AddLocalFile(_Plain):
    """A copy of one file of this host, as it is when the image is built."""

    local: Path
    remote: str

    def __post_init__(self) -> None:
        check_remote("Image.add_local_file", self.remote)
        if not self.local.is_file():
            fix = "add a folder with .add_local_dir" if self.local.is_dir() else "check the path"
            raise InvalidError(
                f"Image.add_local_file: there is no file {str(self.local)!r}. Fix: {fix}"
            )

    def title(self) -> str:
        return f"add {self.local.name} as {self.remote}"

    def written(self) -> str:
        return f"add_local_file({str(self.local)!r}, {self.remote!r})"

    def instruction(self, context: str) -> str:
        return instructions.copy(context, self.remote)

    def files(self) -> Iterator[LocalFile]:
        yield LocalFile(self.local, "", "file", stat.S_IMODE(self.local.stat().st_mode))


@dataclass(frozen=True)
class AddLocalDir(_Plain):
    """A copy of a folder's content, as it is when the image is built.

    Links are kept as links; ``ignore`` selects what is excluded.
    """

    local: Path
    remote: str
    ignore: tuple[str, ...] | Callable[[Path], bool] = ()

    def __post_init__(self) -> None:
        check_remote("Image.add_local_dir", self.remote)
        if not self.local.is_dir():
            fix = "add a file with .add_local_file" if self.local.is_file() else "check the path"
            raise InvalidError(
                f"Image.add_local_dir: there is no folder {str(self.local)!r}. Fix: {fix}"
            )

    def title(self) -> str:
        return f"add {self.local.name}/ as {self.remote}"

    def written(self) -> str:
        shown = self.ignore if callable(self.ignore) else list(self.ignore)
        ignore = f", ignore={shown!r}" if shown else ""
        return f"add_local_dir({str(self.local)!r}, {self.remote!r}{ignore})"

    def instruction(self, context: str) -> str:
        return instructions.copy(f"{context}/", self.remote.rstrip("/") + "/")

    def files(self) -> Iterator[LocalFile]:
        for name in names_below(self.local, self.ignore):
            if (file := found_below(self.local, name)) is not None:
                # A link's own permissions have no meaning and differ between systems.
                yield replace(file, mode=0o777) if file.kind == "link" else file


def _forced(step: Step) -> list[str]:
    return ["force_build=True"] if step.force else []


def _one_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0] + (" …" if len(lines) > 1 else "")
