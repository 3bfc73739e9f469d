"""Dockerfile instructions that a recipe contains, as steps.

``RUN``, ``ENV``, ``WORKDIR`` and ``COPY`` of plain files become the steps that also have methods of
their own, which every engine can carry out. Other instructions reach the Docker engine unchanged.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from lifecycle_magic.checks import refuse_credentials
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.images.local_files import Ignore
from lifecycle_magic.images.step_access import StepAccess
from lifecycle_magic.images.steps import (
    AddLocalDir,
    AddLocalFile,
    DockerfileLine,
    RunCommand,
    SetEnv,
    Step,
    Workdir,
)

__all__ = ["BuildContext", "steps_of"]

_CALL = "Image.dockerfile_commands"
_UNCHANGED = ("ARG", "USER", "LABEL", "EXPOSE", "SHELL", "STOPSIGNAL", "HEALTHCHECK", "VOLUME")
_VARIABLES = re.compile(r"[$\\`]")


@dataclass(frozen=True)
class BuildContext:
    """The folder and the files that ``COPY`` can name.

    ``files`` are further local files, by their names in ``COPY``; ``workdir`` is where relative
    targets start.
    """

    folder: Path
    files: Mapping[str, Path]
    ignore: Ignore
    workdir: str


def steps_of(
    commands: Sequence[str], context: BuildContext, force: bool, access: StepAccess
) -> Iterator[Step]:
    """Yield the steps of instructions, of which each string may hold several lines.

    Each ``RUN`` is given ``access``. Raises `InvalidError` for an instruction that no step can
    stand for.
    """
    lines = list(_instructions(commands))
    words = [line.split(None, 1)[0].upper() for line in lines]
    # They change what the lines after them mean.
    unchanged = bool({"SHELL", "ARG", "USER"} & set(words))
    for word, line in zip(words, lines, strict=True):
        rest = line[len(word) :].strip()
        refuse_credentials(_CALL, line)
        if word in _PARSED and not (unchanged and word == "RUN"):
            for step in _PARSED[word](line, rest, context, force):
                if isinstance(step, Workdir):
                    context = replace(context, workdir=step.path)
                yield replace(step, access=access) if isinstance(step, RunCommand) else step
        elif word in (*_UNCHANGED, "RUN"):
            _check_run(word, rest)
            if word == "RUN" and access:
                raise InvalidError(
                    f"{_CALL}: {line!r} can't see secrets next to SHELL, ARG or USER. Fix: write "
                    "it as .run_commands(..., secrets=[...])"
                )
            yield DockerfileLine(line, force)
        else:
            raise InvalidError(
                f"{_CALL}: {line!r} can't be a step. Fix: start from a Dockerfile with "
                "Image.from_dockerfile(path)"
            )


def _instructions(commands: Sequence[str]) -> Iterator[str]:
    """Yield each instruction as one line."""
    text = "\n".join(commands)
    kept = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\[ \t]*\n", " ", "\n".join(kept)).splitlines():
        if line.strip():
            yield line.strip()


def _check_run(word: str, rest: str) -> None:
    if word == "RUN" and rest.startswith("--"):
        option = rest.split()[0]
        raise InvalidError(
            f"{_CALL}: RUN {option} needs BuildKit, which is not used here. Fix: write it as "
            ".run_commands(..., secrets=[...], volumes={...})"
        )
    if "<<" in rest and re.search(r"<<-?['\"]?\w+", rest):
        raise InvalidError(
            f"{_CALL}: a here-document can't be used. Fix: write the commands as "
            ".run_commands('...', '...')"
        )


def _run(line: str, rest: str, context: BuildContext, force: bool) -> Iterator[Step]:
    _check_run("RUN", rest)
    words = _json_list(rest)
    yield RunCommand(shlex.join(words) if words is not None else rest, (), force)


def _env(line: str, rest: str, context: BuildContext, force: bool) -> Iterator[Step]:
    if _VARIABLES.search(rest):
        yield DockerfileLine(line, force)
        return
    name, _, value = rest.partition(" ")
    if "=" not in name:
        yield SetEnv(((name, value.strip()),))
        return
    try:
        parts = shlex.split(rest)
    except ValueError as error:
        raise InvalidError(f"{_CALL}: {line!r}: {error}. Fix: close the quotes") from None
    yield SetEnv(tuple((one.partition("=")[0], one.partition("=")[2]) for one in parts))


def _workdir(line: str, rest: str, context: BuildContext, force: bool) -> Iterator[Step]:
    path = rest.strip("\"'")
    if _VARIABLES.search(path):
        yield DockerfileLine(line, force)
    elif path.startswith("/") or context.workdir:
        yield Workdir(str(PurePosixPath(context.workdir or "/") / path))
    else:
        raise InvalidError(f"{_CALL}: {line!r} has a relative path. Fix: start it with '/'")


def _copy(line: str, rest: str, context: BuildContext, force: bool) -> Iterator[Step]:
    words = _json_list(rest) or shlex.split(rest)
    if len(words) < 2 or any(one.startswith("--") for one in words) or _VARIABLES.search(rest):
        raise InvalidError(
            f"{_CALL}: {line!r} can't be a step: options and variables of COPY are not supported. "
            "Fix: use .add_local_file(...) or .add_local_dir(...), or Image.from_dockerfile(path)"
        )
    *sources, target = words
    if not target.startswith("/"):
        if not context.workdir:
            raise InvalidError(
                f"{_CALL}: {line!r} copies to a relative path. Fix: start it with '/', or add "
                ".workdir('/...') before it"
            )
        slash = "/" if target.endswith("/") or target in (".", "./") else ""
        target = str(PurePosixPath(context.workdir) / target) + slash
    for source in sources:
        found = context.files.get(source) or context.files.get(f"/{source.lstrip('/')}")
        local = found or context.folder / source.lstrip("/")
        if local.is_dir():
            skip = context.ignore if callable(context.ignore) else tuple(context.ignore)
            yield AddLocalDir(local, target.rstrip("/") or "/", skip)
        else:
            into = target.endswith("/") or len(sources) > 1
            yield AddLocalFile(local, f"{target.rstrip('/')}/{local.name}" if into else target)


def _nothing(line: str, rest: str, context: BuildContext, force: bool) -> Iterator[Step]:
    if _json_list(rest) != []:
        raise InvalidError(
            f"{_CALL}: {line!r}: a container runs the class, so no other command would run. "
            "Fix: start what has to run before it in an @enter hook"
        )
    yield from ()


def _json_list(text: str) -> list[str] | None:
    try:
        found: Any = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, list) else None


_PARSED: dict[str, Callable[[str, str, BuildContext, bool], Iterator[Step]]] = {
    "RUN": _run,
    "ENV": _env,
    "WORKDIR": _workdir,
    "COPY": _copy,
    "ADD": _copy,
    "ENTRYPOINT": _nothing,
    "CMD": _nothing,
}
