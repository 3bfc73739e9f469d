"""The table of attacks names tests that exist, and every test of the attack suite is in it."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
DEFINED = re.compile(r"^ *(?:async )?def test_(\w+)", re.MULTILINE)


def defined(folder: Path) -> set[str]:
    files = folder.rglob("test_*.py")
    return {name for path in files for name in DEFINED.findall(path.read_text())}


def proofs() -> set[str]:
    rows = (TESTS / "attack" / "README.md").read_text().split("\n")
    cells = [row.split("|")[2] for row in rows if row.startswith("| ")]
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_every_proof_is_a_test() -> None:
    assert proofs()
    assert not proofs() - defined(TESTS)


def test_every_row_has_a_proof() -> None:
    rows = (TESTS / "attack" / "README.md").read_text().split("\n")
    tables = [row for row in rows if row.startswith("| ") and "---" not in row]
    assert not [row for row in tables if "`" not in row and "| Proof |" not in row]
