"""The steps of a recipe, carried out on a snapshot folder and a virtual environment.

Packages go into the environment, everything else into the snapshot. The engine decides how a shell
command is run (in a sandbox or not): it passes a function that prepares the command.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from lifecycle_magic.engines.base import OnStep
from lifecycle_magic.engines.process import environments
from lifecycle_magic.engines.process.interpreters import Interpreter
from lifecycle_magic.engines.step_reporter import StepReporter
from lifecycle_magic.exception import BuildError
from lifecycle_magic.guest import secret_search
from lifecycle_magic.host import disk_full
from lifecycle_magic.images.image import Image
from lifecycle_magic.images.package_steps import PipInstall
from lifecycle_magic.images.steps import (
    AddLocalDir,
    AddLocalFile,
    FileDigests,
    RunCommand,
    SetEnv,
    Step,
    Workdir,
    check_unchanged,
)

_MOST_LINKS = 40  # as the kernel's own limit, path_resolution(7)


@dataclass(frozen=True)
class StepsResult:
    """The result of the steps so far: folders, Python, environment variables, working folder."""

    root: Path
    venv: Path
    python: Interpreter
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str | None = None


@dataclass(frozen=True)
class PreparedCommand:
    """A command that is ready to run."""

    command: list[str]
    env: Mapping[str, str]
    cwd: Path


Prepare = Callable[[RunCommand, StepsResult], PreparedCommand]


def run_steps(
    image: Image,
    made: StepsResult,
    prepare: Prepare,
    on_step: OnStep,
    files: FileDigests | None = None,
    *,
    new: bool = True,
) -> StepsResult:
    """Carry out every step of ``image`` and return the result.

    With ``new`` the environment is made first; otherwise it exists. ``files`` are the digests that
    copied files must have. Raises `BuildError` with the failing step's command, exit code and last
    20 lines.
    """
    steps = image.plain_steps()
    # Commands may call pip; nothing else has a use for it.
    seed = any(isinstance(step, RunCommand) for step in steps)
    before = 1 if new else 0
    of = len(steps) + before
    if new:
        python = f"environment with Python {made.python.minor}"
        with _reported_step(StepReporter(on_step, python, 1, of)) as say:
            environments.make(made.venv, python=made.python.path, seed=seed, on_line=say)
    elif seed and not (made.venv / "bin" / "pip").exists():
        with disk_full.explain("add pip"):
            environments.install(made.venv, ["pip"], lambda _: None, tool="uv")
    for index, step in enumerate(steps):
        number = index + before + 1
        with _reported_step(StepReporter(on_step, step.title(), number, of)) as say:
            digests = None if files is None else files[index]
            made = _run_step(step, made, prepare, say, digests)
    return made


def change_environment(image: Image) -> bool:
    """Return whether a step of ``image`` can change the environment that it is given."""
    return any(isinstance(step, PipInstall | RunCommand) for step in image.steps)


def _run_step(
    step: Step,
    made: StepsResult,
    prepare: Prepare,
    say: Callable[[str], None],
    files: list[str] | None,
) -> StepsResult:
    if isinstance(step, PipInstall):
        arguments = [*step.options(), "--", *step.packages]
        with _hidden(step, made, say) as (secrets, print_line):
            environments.install(
                made.venv,
                arguments,
                print_line,
                shown=step.title(),
                tool=step.tool,
                extra={**secrets, **dict(step.env)},
            )
    elif isinstance(step, RunCommand):
        with _hidden(step, made, say) as (secrets, print_line):
            ready = prepare(step, made)
            environments.stream(
                ready.command,
                env={**ready.env, **secrets, **dict(step.env)},
                cwd=ready.cwd,
                on_line=print_line,
                shown=step.title(),
            )
    elif isinstance(step, SetEnv):
        made = replace(made, env={**made.env, **dict(step.variables)})
    elif isinstance(step, Workdir):
        inside(made.root, step.path, follow=True).mkdir(parents=True, exist_ok=True)
        made = replace(made, workdir=step.path)
    elif isinstance(step, AddLocalFile | AddLocalDir):
        try:
            copied = _copy(step, made.root)
        except OSError as error:
            raise BuildError(f"{step.title()}: {error}{disk_full.fix_line(str(error))}") from error
        if files is not None:
            check_unchanged(step, copied, files)
    else:
        raise BuildError(
            f"{step.title()}: the process engine can't do this. Fix: start Docker Engine"
        )
    return made


@contextlib.contextmanager
def _hidden(
    step: Step, made: StepsResult, say: Callable[[str], None]
) -> Iterator[tuple[dict[str, str], Callable[[str], None]]]:
    """Yield the step's secrets and what prints its lines without them.

    Raises `BuildError` if a file that the block wrote holds the value of a secret, and hides values
    in the message of another error.
    """
    secrets = step.access.values()
    hidden = list(secrets.values())
    began = time.time()
    try:
        yield secrets, lambda line: say(secret_search.masked(line, hidden))
    except BuildError as error:
        if secrets:
            raise BuildError(secret_search.masked(str(error), hidden)) from None
        raise
    found = secret_search.find(secrets, [str(made.root), str(made.venv)], began)
    if found is not None:
        raise BuildError(f"{step.title()}: {secret_search.message(*found)}")


def _copy(step: AddLocalFile | AddLocalDir, root: Path) -> list[str]:
    """Copy the step's files into the snapshot and return the digests of the copies."""
    found = []
    if isinstance(step, AddLocalDir):
        inside(root, step.remote, follow=True).mkdir(parents=True, exist_ok=True)
    for file in step.files():
        target = inside(root, f"{step.remote.rstrip('/')}/{file.name}".rstrip("/"))
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.kind == "folder":
            target.mkdir(exist_ok=True)
            target.chmod(file.mode | 0o700)
        elif file.kind == "link":
            target.unlink(missing_ok=True)
            target.symlink_to(os.readlink(file.path))
        else:
            shutil.copyfile(file.path, target)
            target.chmod(file.mode)
        found.append(replace(file, path=target).digest())
    return found


def inside(root: Path, path: str, *, follow: bool = False) -> Path:
    """Return where the absolute ``path`` lies when ``root`` is the root folder.

    A link in the snapshot leads to where it would lead inside; it can't lead out of ``root``. The
    last part is followed only on demand.

    >>> inside(Path("/snapshot"), "/data/../../x")
    PosixPath('/snapshot/x')
    """
    waiting = list(reversed(PurePosixPath(path).parts))
    done: list[str] = []
    links = 0
    while waiting:
        part = waiting.pop()
        if part in ("/", ".."):
            done = done[:-1] if part == ".." else []
            continue
        here = root.joinpath(*done, part)
        if (waiting or follow) and here.is_symlink():
            links += 1
            if links > _MOST_LINKS:
                raise OSError(f"{path}: too many links")
            waiting.extend(reversed(PurePosixPath(os.readlink(here)).parts))
        else:
            done.append(part)
    return root.joinpath(*done)


@contextlib.contextmanager
def _reported_step(reporter: StepReporter) -> Iterator[Callable[[str], None]]:
    """Report that a step began, what it prints (by line), and how it ended."""
    reporter.report_start()
    try:
        yield lambda line: reporter.report_output(f"{line}\n")
    except BaseException:
        reporter.report_end("failed")
        raise
    reporter.report_end("done")
