"""The corpus as data: enough of every kind, each mechanism covered, differences documented."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from corpus.program import Program, all_programs

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs" / "differences.md"
PROGRAMS = all_programs()
MECHANISMS = [line for line in (HERE / "mechanisms.txt").read_text().splitlines() if line]


def _differences() -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads((HERE / "differences.json").read_text())
    return rows


def rendered() -> str:
    """The page that `docs/differences.md` is, made from the data."""
    lines = [
        "# Where a container differs from plain Python",
        "",
        "A class in a container gives the same results as the same class whose hooks you call by",
        "hand in the notebook. This table lists what differs on purpose. `tests/corpus` runs every",
        "program both ways and accepts only these differences. To change this page, edit",
        "`tests/corpus/differences.json` and run `make differences`.",
        "",
        "| what | in plain Python | in a container | why |",
        "| --- | --- | --- | --- |",
    ]
    keys = ("what", "plain", "here", "why")
    lines += [f"| {' | '.join(row[key] for key in keys)} |" for row in _differences()]
    return "\n".join(lines) + "\n"


def _shape(program: Program) -> str:
    """A program without its values: two that differ in values alone have the same."""
    text = "\n".join(cell.text for cell in program.cells)
    text = re.sub(r"""("[^"\n]*"|'[^'\n]*'|\b\d[\d_.]*\b)""", "V", text)
    steps = [(a.kind, a.name) for step in program.steps for a in step.actions]
    return f"{text}{steps}{program.files}"


def test_there_are_two_hundred_programs_and_twelve_of_every_kind() -> None:
    kinds = Counter(program.kind for program in PROGRAMS)
    assert len(PROGRAMS) >= 200
    assert not {kind: count for kind, count in kinds.items() if count < 12}


def test_no_two_programs_differ_in_values_alone() -> None:
    shapes = Counter(map(_shape, PROGRAMS))
    assert not [p.id for p in PROGRAMS if shapes[_shape(p)] > 1]


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_each_mechanism_is_covered_by_three_programs(mechanism: str) -> None:
    assert len([p for p in PROGRAMS if mechanism in p.words("covers")]) >= 3


def test_programs_cover_only_known_mechanisms() -> None:
    known = set(MECHANISMS)
    assert not {p.id: bad for p in PROGRAMS if (bad := set(p.words("covers")) - known)}


def test_each_difference_has_a_program_and_each_program_a_row() -> None:
    rows = {row["name"] for row in _differences()}
    named = {name for program in PROGRAMS for name in program.words("differs")}
    assert named <= rows
    assert not [row["name"] for row in _differences() if row["name"] not in named]


def test_the_documented_table_is_the_one_that_programs_may_use() -> None:
    assert DOCS.read_text() == rendered()


if __name__ == "__main__":
    DOCS.write_text(rendered())
