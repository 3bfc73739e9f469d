#!/usr/bin/env python3
"""Run the tests on every Python that the package claims and this machine has, one after another.

    scripts/pythons.py [unit] [corpus] [process]     default: all three
    scripts/pythons.py interpreter                   the part of unit that CI runs

Interpreters come from ``PYTHONS`` (paths or names, separated by spaces) if that is set, otherwise
from ``~/.pyenv/versions`` and the path, but for the Python of ``.venv``, which ``make test`` uses.
Each gets an environment of its own, ``.pythons/<minor>-<digest of pyproject.toml>``, made by uv
and kept. Nothing is downloaded but packages. Where this machine has no Python 3.14,
``scripts/python-3.14.sh`` runs the same in a container; ``--no-container`` leaves that out.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".pythons"
UV = ROOT / ".venv/bin/uv"
IN_A_CONTAINER = "3.14"
GROUPS = {
    "interpreter": ["tests/unit", "-m", "every_python"],
    "unit": ["tests/unit"],
    "corpus": ["tests/corpus", "-m", "not docker"],
    "process": ["tests/engine", "tests/faults", "tests/kernel", "-m", "not docker"],
}
USUAL = ("unit", "corpus", "process")
VERSION = "import sys; print('%d.%d.%d' % sys.version_info[:3])"


@dataclass(frozen=True)
class Python:
    """An interpreter and its version, such as 3.12.1."""

    path: str
    version: str

    @property
    def minor(self) -> str:
        return self.version.rpartition(".")[0]


@dataclass(frozen=True)
class Result:
    """The result of one group of tests on one Python; ``summary`` is pytest's last line."""

    version: str
    group: str
    passed: bool
    summary: str


def main() -> int:
    """Run the groups named on the command line; 1 if a test failed or a Python can't be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("groups", nargs="*", metavar="interpreter|unit|corpus|process")
    parser.add_argument("--no-container", action="store_true")
    parser.add_argument("--workers", type=int, default=max(os.cpu_count() or 1, 2))
    given = parser.parse_args()
    if unknown := set(given.groups) - set(GROUPS):
        parser.error(f"no such group: {', '.join(sorted(unknown))}")
    groups = [name for name in given.groups or USUAL if (ROOT / GROUPS[name][0]).is_dir()]
    pythons = found()
    # The environment of the next Python is made while the tests run on this one.
    with ThreadPoolExecutor(1) as installer:
        environments = [installer.submit(environment_for, python) for python in pythons]
        results = [
            result
            for python, environment in zip(pythons, environments, strict=True)
            for result in run(python, environment, groups, given.workers)
        ]
    if not given.no_container and not any(one.minor == IN_A_CONTAINER for one in pythons):
        results.append(run_in_container(groups))
    if not results:
        say("no further Python found: install one with pyenv, or name one in PYTHONS=")
        return 0
    print(table(results), flush=True)
    return 0 if all(result.passed for result in results) else 1


def found() -> list[Python]:
    """Return the interpreters to test, oldest first; for each minor the newest that pyenv has."""
    if named := os.environ.get("PYTHONS", "").split():
        return [
            Python(path, version_of(path) or sys.exit(f"{path} does not run")) for path in named
        ]
    minors = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    usual = version_of(str(ROOT / ".venv/bin/python")) or ""
    pythons = []
    for minor in minors:
        if usual.startswith(f"{minor}."):
            continue
        candidates = sorted(
            Path.home().glob(f".pyenv/versions/{minor}.*/bin/python"),
            key=lambda path: [int(part) for part in re.findall(r"\d+", path.parts[-3])],
            reverse=True,
        )
        on_path = shutil.which(f"python{minor}")
        for path in [*map(str, candidates), *([on_path] if on_path else [])]:
            version = version_of(path)  # a shim of pyenv may stand for nothing
            if version and version.startswith(f"{minor}."):
                pythons.append(Python(path, version))
                break
    return pythons


def version_of(path: str) -> str | None:
    """Return the version of an interpreter, or None if it does not run."""
    try:
        done = subprocess.run([path, "-c", VERSION], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def run(python: Python, installed: Future[Path], groups: list[str], workers: int) -> list[Result]:
    """Run the groups on one Python, once its environment is installed."""
    try:
        environment = installed.result()
    except subprocess.CalledProcessError as error:
        return [Result(python.version, "install", False, f"uv ended with {error.returncode}")]
    return [run_group(environment, python.version, group, workers) for group in groups]


def environment_for(python: Python) -> Path:
    """Return the environment's folder for ``python``, made again after pyproject.toml changed."""
    source = (ROOT / "pyproject.toml").read_bytes() + python.version.encode()
    folder = FOLDER / f"{python.minor}-{hashlib.sha256(source).hexdigest()[:8]}"
    stamp = folder / ".installed"
    if stamp.exists():
        return folder
    for old in FOLDER.glob(f"{python.minor}-*"):
        shutil.rmtree(old)
    say(f"making {folder.relative_to(ROOT)}")
    subprocess.run([UV, "venv", "--quiet", "--python", python.path, folder], check=True)
    install = [UV, "pip", "install", "--quiet", "--python", folder / "bin/python"]
    subprocess.run([*install, "-e", f"{ROOT}[web,dev]"], check=True)
    stamp.touch()
    return folder


def run_group(environment: Path, version: str, group: str, workers: int) -> Result:
    """Run one group of tests, with its output passed on."""
    say(f"{group} tests on Python {version}")
    options = ["-q", "-n", str(workers), "--dist", "loadgroup"]
    command = [environment / "bin/python", "-m", "pytest", *options]
    # Only the Python of .venv has a base image for Docker, so Docker's tests can't run here.
    outside = {**os.environ, "CI": "", "LIFECYCLE_MAGIC_ENGINE": "process", "CORPUS": "all"}
    return pytest_result([*command, *GROUPS[group]], version, group, outside)


def run_in_container(groups: list[str]) -> Result:
    """Run the groups on Python 3.14 in a container; passed as well where there can be none."""
    paths = [word for group in groups for word in GROUPS[group] if word.startswith("tests/")]
    command = ["bash", ROOT / "scripts/python-3.14.sh", *paths]
    return pytest_result(command, IN_A_CONTAINER, "+".join(groups), dict(os.environ))


def pytest_result(
    command: list[str | Path], version: str, group: str, environment: dict[str, str]
) -> Result:
    """Run a command that ends as pytest does; its exit code decides."""
    began = time.monotonic()
    last = ""
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    summary = last.strip("= ")
    if " in " not in summary:
        summary += f" in {time.monotonic() - began:.0f} s"
    return Result(version, group, process.returncode == 0, summary)


def table(results: list[Result]) -> str:
    """Return one line for each Python and group."""
    lines = [f"{'Python':<9} {'tests':<20} {'result':<6}"]
    lines += [
        f"{one.version:<9} {one.group:<20} {'ok' if one.passed else 'FAILED':<6} {one.summary}"
        for one in results
    ]
    return "\n".join(lines)


def say(text: str) -> None:
    """Print a line of this script's own."""
    print(f"pythons: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
