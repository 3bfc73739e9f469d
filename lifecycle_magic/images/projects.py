"""The dependencies of a Python project, read from its files."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lifecycle_magic.exception import InvalidError

__all__ = ["locked_by_uv", "of_pyproject", "read_toml"]

_SECONDS = 60.0
_MOST_LINES = 5  # of uv's message


def read_toml(call: str, path: Path) -> dict[str, Any]:
    """Return the content of a TOML file. Raises `InvalidError` if it can't be read."""
    # tomli is what became tomllib in Python 3.11.
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        with path.open("rb") as file:
            content: dict[str, Any] = toml.load(file)
            return content
    except (OSError, ValueError) as error:
        raise InvalidError(f"{call}: {str(path)!r} can't be read: {error}") from None


def of_pyproject(
    call: str, path: Path, extras: Sequence[str], groups: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the dependencies of a ``pyproject.toml``, with those of extras and groups.

    Raises `InvalidError` for a file that lists none, and for names that it does not have.
    """
    content = read_toml(call, path)
    project = content.get("project", {})
    if "dependencies" not in project:
        raise InvalidError(
            f"{call}: {path.name} has no list project.dependencies. Fix: add one, or use "
            ".poetry_install_from_file(...) for a project of poetry"
        )
    found = list(project["dependencies"])
    for name in extras:
        found += _named(call, project.get("optional-dependencies", {}), name, "extra")
    for name in groups:
        found += _group(call, content.get("dependency-groups", {}), name, ())
    return tuple(found)


def _named(call: str, lists: dict[str, Any], name: str, what: str) -> list[Any]:
    if name not in lists:
        known = ", ".join(lists) or "none"
        raise InvalidError(f"{call}: the project has no {what} {name!r}. Fix: it has {known}")
    return list(lists[name])


def _group(call: str, groups: dict[str, Any], name: str, outer: tuple[str, ...]) -> list[str]:
    """Return a dependency group with those that it includes (PEP 735)."""
    if name in outer:
        raise InvalidError(f"{call}: the group {name!r} includes itself. Fix: remove the circle")
    found: list[str] = []
    for one in _named(call, groups, name, "group"):
        if isinstance(one, dict):
            found += _group(call, groups, str(one.get("include-group")), (*outer, name))
        else:
            found.append(one)
    return found


def locked_by_uv(
    call: str, folder: Path, extras: Sequence[str], groups: Sequence[str]
) -> tuple[str, ...]:
    """Return what ``uv.lock`` of a project pins, without the project itself.

    Raises `InvalidError` with what uv prints if the lock can't be read.
    """
    import uv

    command = [
        os.fspath(uv.find_uv_bin()),
        "export",
        "--frozen",
        "--no-emit-workspace",
        "--no-hashes",
        "--no-header",
    ]
    command += ["--no-annotate", "--no-default-groups", "--quiet"]
    command += [f"--extra={name}" for name in extras] + [f"--group={name}" for name in groups]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise InvalidError(f"{call}: uv export failed: {error}") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines()[-_MOST_LINES:]
        raise InvalidError(f"{call}: uv can't read {folder / 'uv.lock'}:\n" + "\n".join(lines))
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip())
