"""Python interpreters of this machine, by version: the kernel's own, others, and those uv fetches.

Looked for on the PATH, in pyenv's folder, and among the interpreters that uv keeps.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lifecycle_magic.engines.base import OnStep
from lifecycle_magic.engines.process import environments
from lifecycle_magic.engines.step_reporter import StepReporter
from lifecycle_magic.exception import BuildError

__all__ = ["Interpreter", "fetch", "fetch_if_missing", "find", "own"]

_LOOK = (
    "import json, os, platform, sys\n"
    "path = os.path.realpath(getattr(sys, '_base_executable', None) or sys.executable)\n"
    "print(json.dumps([path, platform.python_version(), sys.version,"
    " [sys.base_prefix, sys.base_exec_prefix], platform.python_implementation()]))\n"
)
_SECONDS = 20.0


@dataclass(frozen=True)
class Interpreter:
    """A Python of this machine. ``prefixes`` are the folders of its files; ``digest_text`` differs
    for each build of Python.
    """

    path: str
    version: str
    prefixes: tuple[str, ...]
    digest_text: str

    @property
    def minor(self) -> str:
        """Its minor version, such as ``3.12``."""
        return ".".join(self.version.split(".")[:2])


def own() -> Interpreter:
    """Return the interpreter behind the kernel's own environment."""
    path = environments.base_python()
    described = "\n".join((sys.version, path, sys.base_prefix, platform.platform()))
    return Interpreter(path, platform.python_version(), environments.python_prefixes(), described)


def find(version: str) -> Interpreter | None:
    """Return an interpreter of this minor version, or of this patch release if one is given."""
    if _fits(own(), version):
        return own()
    known = _known.get(version)
    if known is None or not os.path.exists(known.path):
        known = _look_for(version)
        if known is not None:
            _known[version] = known
    return known


def find_portable(version: str) -> Interpreter | None:
    """Return an interpreter of this version that can be copied to another system.

    Best is one that uv keeps, because it needs nothing but the C library; otherwise any that is
    not the system's own. None if there is none.
    """
    for preference in ("only-managed", "managed"):
        for path in _of_uv(version, "--python-preference", preference):
            one = _look(path)
            if one is not None and _fits(one, version) and not _is_systems(one):
                return one
    found = find(version)
    return None if found is None or _is_systems(found) else found


def _is_systems(one: Interpreter) -> bool:
    return one.prefixes[0] in ("/usr", "/")


def fetch(version: str, on_line: Callable[[str], None]) -> Interpreter:
    """Return an interpreter of this version; uv fetches one if this machine has none.

    Raises `BuildError` with the fix if uv can't fetch one.
    """
    known = find(version)
    if known is not None:
        return known
    env = {**environments.uv_environment(), "UV_PYTHON_DOWNLOADS": "automatic"}
    command = [environments.find_uv(), "python", "install", version]
    try:
        environments.stream(
            command, env=env, cwd=Path.home(), on_line=on_line, shown=f"uv python install {version}"
        )
    except BuildError as error:
        raise BuildError(
            f"there is no Python {version} on this machine, and uv can't fetch one. Fix: install "
            f"it (pyenv install {version}, or uv python install {version}), or name one that is "
            f"here, such as {own().minor}\n{error}"
        ) from None
    fetched = find(version)
    if fetched is None:
        raise BuildError(f"uv has fetched Python {version}, but it does not run on this machine")
    return fetched


def _fits(one: Interpreter, version: str) -> bool:
    return version in (one.minor, one.version)


_known: dict[str, Interpreter] = {}


def fetch_if_missing(version: str, on_step: OnStep | None = None) -> Interpreter:
    """Return an interpreter of this version, as `fetch`; report the fetching as a build step."""
    found = find(version)
    if found is not None:
        return found
    reporter = StepReporter(on_step or (lambda _: None), f"fetch Python {version}", 0, 0)
    reporter.report_start()
    try:
        found = fetch(version, lambda line: reporter.report_output(f"{line}\n"))
    except BaseException:
        reporter.report_end("failed")
        raise
    reporter.report_end("done")
    return found


def _look_for(version: str) -> Interpreter | None:
    for path in _candidates(version):
        one = _look(path)
        if one is not None and _fits(one, version):
            return one
    return None


def _candidates(version: str) -> Iterator[str]:
    name = f"python{'.'.join(version.split('.')[:2])}"
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        if folder and os.access(path := os.path.join(folder, name), os.X_OK):
            yield path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    yield from (str(path) for path in sorted(pyenv.glob(f"{version}*/bin/{name}"), reverse=True))
    yield from _of_uv(version)


def _of_uv(version: str, *options: str) -> Iterator[str]:
    """Yield the interpreter that uv finds."""
    find_it = [environments.find_uv(), "python", "find", "--no-project", "--system", version]
    command = [*find_it, *options]
    env = {**environments.uv_environment(), "UV_PYTHON_DOWNLOADS": "never"}
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return
    yield done.stdout.strip()


def _look(path: str) -> Interpreter | None:
    """Return what an interpreter says of itself; None if it does not run, as pyenv's stand-ins."""
    try:
        done = subprocess.run(
            [path, "-I", "-S", "-c", _LOOK],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
            check=True,
        )
        real, version, text, prefixes, kind = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    if kind != "CPython":
        return None
    beside = os.path.dirname(os.path.dirname(real))
    folders = tuple(dict.fromkeys((*prefixes, beside)))
    return Interpreter(
        real, version, folders, "\n".join((text, real, prefixes[0], platform.platform()))
    )
