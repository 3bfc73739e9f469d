"""Steps of an image that install packages."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Literal

from lifecycle_magic.checks import check_text, matches, refuse_credentials
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.images import instructions
from lifecycle_magic.images.step_access import NO_ACCESS, StepAccess
from lifecycle_magic.images.steps import NoFiles, forced, one_line

__all__ = ["AptInstall", "PipInstall"]

_APT_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?([=/][A-Za-z0-9.+:~-]+)?")
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


@dataclass(frozen=True)
class PipInstall(NoFiles):
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
        return one_line(f"{tool} install {shlex.join([*self.options(), *self.packages])}")

    def written(self) -> str:
        given = [repr(package) for package in self.packages]
        for name in ("find_links", "index_url", "extra_index_url", "pre", "extra_options"):
            if value := getattr(self, name):
                given.append(f"{name}={value!r}")
        given += [f"env={dict(self.env)!r}"] if self.env else []
        given += [*forced(self), *self.access.written()]
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
class AptInstall(NoFiles):
    """Debian packages with their dependencies, without the packages they only recommend."""

    packages: tuple[str, ...]
    force: bool = False
    access: StepAccess = NO_ACCESS
    env: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        refuse_credentials("Image.apt_install", *(value for _, value in self.env))
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
        return one_line(f"apt-get install {' '.join(self.packages)}")

    def written(self) -> str:
        env = [f"env={dict(self.env)!r}"] if self.env else []
        given = [*map(repr, self.packages), *env, *forced(self), *self.access.written()]
        return f"apt_install({', '.join(given)})"

    def instruction(self, context: str) -> str:
        script = (
            "export DEBIAN_FRONTEND=noninteractive && apt-get update -q && "
            'apt-get install -q -y --no-install-recommends -- "$@" && '
            "rm -rf /var/lib/apt/lists/*"
        )
        env = ["env", *(f"{name}={value}" for name, value in self.env)] if self.env else []
        return instructions.run(*env, "/bin/sh", "-c", script, "sh", *self.packages)
