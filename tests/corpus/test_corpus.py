"""Every program of the corpus gives what plain Python gives, and what the program itself says.

Each runs once on one engine; with ``CORPUS=all``, as ``make corpus`` sets it, once on each.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from corpus.program import Program, all_programs
from corpus.runner import Difference, Runner, check

ENGINES = ("docker", "process")
PENDING = frozenset(
    line.strip()
    for line in (Path(__file__).parent / "pending.txt").read_text().splitlines()
    if line.strip() and not line.startswith("#")
)


def _cases() -> list[object]:
    found: list[object] = []
    for index, program in enumerate(all_programs()):
        engines = program.words("engines") or ENGINES
        if os.environ.get("CORPUS") != "all":
            engines = (engines[index % len(engines)],)
        for engine in engines:
            mark = pytest.mark.docker if engine == "docker" else pytest.mark.process
            found.append(pytest.param(program, engine, id=f"{program.id}-{engine}", marks=mark))
    return found


@pytest.mark.parametrize(("program", "engine"), _cases())
def test_the_product_is_plain_python(
    program: Program, engine: str, runner: Runner, request: pytest.FixtureRequest
) -> None:
    if engine == "docker":
        request.getfixturevalue("need_docker")
    if "mounts" in program.words("needs"):
        request.getfixturevalue("need_mounts")
    pending = f"{program.id} {engine}" in PENDING
    try:
        check(runner, program, engine)
    except Difference as difference:
        if not pending:
            pytest.fail(str(difference), pytrace=False)
        return
    assert not pending, "it gives the right result now: remove it from pending.txt"
