"""Each mechanism, un-fixed, makes at least three programs differ from plain Python.

The table is checked always, the programs run with ``CORPUS_UNFIXED=1``: see ``make unfixed``.
"""

from __future__ import annotations

import importlib
import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from corpus.program import Program, all_programs
from corpus.runner import Difference, Runner, check
from corpus.unfixed import BY_HAND, UNFIXED, Change

import lifecycle_magic

LEAST = 3
MECHANISMS = (Path(__file__).parent / "mechanisms.txt").read_text().splitlines()
RUNS = pytest.mark.skipif(not os.environ.get("CORPUS_UNFIXED"), reason="only in make unfixed")


def test_each_mechanism_has_a_change_or_a_reason() -> None:
    assert sorted([*UNFIXED, *BY_HAND]) == sorted(filter(None, MECHANISMS))


@pytest.mark.parametrize("mechanism", UNFIXED)
def test_each_change_replaces_names_of_its_module(mechanism: str) -> None:
    for change in UNFIXED[mechanism]:
        module = importlib.import_module(f"lifecycle_magic.{change.module}")
        assert not [name for name in change.names if not hasattr(module, name)]
        compile(change.code, change.module, "exec")


def _changed_package(folder: Path, changes: tuple[Change, ...]) -> Path:
    """Return a folder with a copy of the package that has the changes."""
    package = folder / "lifecycle_magic"
    source = Path(lifecycle_magic.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    for change in changes:
        path = package / f"{change.module.replace('.', '/')}.py"
        path.write_text(f"{path.read_text()}\n\n{change.code}\n")
    return folder


def _covering(mechanism: str) -> list[Program]:
    return [one for one in all_programs() if mechanism in one.words("covers")]


@pytest.fixture
def images(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A state folder for all changes, so that the image with packages is built once."""
    return tmp_path_factory.getbasetemp() / f"unfixed-{worker_id}"


@RUNS
@pytest.mark.process
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mechanism", UNFIXED)
def test_three_programs_notice_the_fault(
    mechanism: str, tmp_path: Path, images: Path, request: pytest.FixtureRequest
) -> None:
    images.mkdir(mode=0o700, exist_ok=True)
    package = _changed_package(tmp_path / "package", UNFIXED[mechanism])
    noticed, quiet = [], []
    with closing(Runner(tmp_path / "runs", images, package=package, seconds=60)) as runner:
        for program in _covering(mechanism):
            if len(noticed) == LEAST:
                break
            engines = program.words("engines") or ("process",)
            if engines[0] == "docker":
                request.getfixturevalue("need_docker")
            try:
                check(runner, program, engines[0])
            except Difference:
                noticed.append(program.id)
            else:
                quiet.append(program.id)
    assert len(noticed) >= LEAST, f"noticed by {noticed}, not by {quiet}"
