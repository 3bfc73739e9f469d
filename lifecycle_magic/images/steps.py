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
from typing import Protocol

from lifecycle_magic.checks import (
    check_remote,
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

# Any string that is not blank and has no NUL.
_COMMAND = re.compile(r"(?!\s*\Z)[^\0]+")


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


class PlainStep:
    """The members of a step that is never forced and needs no volumes or secrets."""

    force = False
    access = NO_ACCESS


class NoFiles:
    """The members of a step that needs no file of this host."""

    def files(self) -> Iterator[LocalFile]:
        return iter(())


@dataclass(frozen=True)
class RunCommand(NoFiles):
    """One shell command; ``env`` is set for it alone and can be read from the image's history.

    ``shell`` are the words before the command, as in ``bash -c``; by default ``/bin/sh`` runs it.
    """

    command: str
    env: tuple[tuple[str, str], ...] = ()
    force: bool = False
    access: StepAccess = NO_ACCESS
    shell: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not matches(_COMMAND, self.command):
            raise InvalidError(
                f"Image.run_commands: {self.command!r} is no command. Fix: give one string per "
                "command, as in .run_commands('make', 'make install')"
            )
        check_variables("Image.run_commands(env=...)", self.env)
        refuse_credentials("Image.run_commands", self.command, *(value for _, value in self.env))

    def title(self) -> str:
        return one_line(self.command)

    def written(self) -> str:
        env = [f"env={dict(self.env)!r}"] if self.env else []
        given = [repr(self.command), *env, *forced(self), *self.access.written()]
        return f"run_commands({', '.join(given)})"

    def instruction(self, context: str) -> str:
        env = ["env", *(f"{name}={value}" for name, value in self.env)] if self.env else []
        return instructions.run(*env, "/bin/sh", "-c", self.script)

    @property
    def script(self) -> str:
        """The command for ``/bin/sh``, which starts the image's own shell if it has one."""
        return f"exec {shlex.join([*self.shell, self.command])}" if self.shell else self.command


@dataclass(frozen=True)
class DockerfileLine(NoFiles):
    """One instruction that only a Docker engine can carry out, as it was written."""

    line: str
    force: bool = False
    access = NO_ACCESS

    def title(self) -> str:
        return one_line(self.line)

    def written(self) -> str:
        return f"dockerfile_commands({', '.join([repr(self.line), *forced(self)])})"

    def instruction(self, context: str) -> str:
        return self.line


@dataclass(frozen=True)
class SetEnv(NoFiles, PlainStep):
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
        return one_line("env " + " ".join(f"{name}={shlex.quote(v)}" for name, v in self.variables))

    def written(self) -> str:
        return f"env({dict(self.variables)!r})"

    def instruction(self, context: str) -> str:
        return instructions.env(self.variables)


@dataclass(frozen=True)
class Workdir(NoFiles, PlainStep):
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
class AddLocalFile(PlainStep):
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
class AddLocalDir(PlainStep):
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


def forced(step: Step) -> list[str]:
    """Return the argument ``force_build`` as it was written, if there is one."""
    return ["force_build=True"] if step.force else []


def one_line(text: str) -> str:
    """Return the first line of a text, with an ellipsis if there are more."""
    lines = text.strip().splitlines()
    return lines[0] + (" …" if len(lines) > 1 else "")
