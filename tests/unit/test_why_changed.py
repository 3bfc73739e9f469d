"""The reasons that a card gives: which base class, annotation or setting an edit changes."""

from __future__ import annotations

from typing import Any

from lifecycle_magic.fingerprint import fingerprint
from lifecycle_magic.services.deployment_changes import changed

CELL = """
class Base:
    size: int = 1

class Extra:
    pass

class Other:
    pass

class Model(Base):
    rate: int = 2
"""


def names_changed(old: str, new: str, cell: str = CELL) -> list[str]:
    assert cell.count(old) == 1
    parts = []
    for source in (cell, cell.replace(old, new)):
        space: dict[str, Any] = {"__name__": "__main__"}
        exec(source, space)
        parts.append(fingerprint.of_members(space["Model"], ()).parts)
    return changed(parts[0], parts[1], "Model")


def test_a_base_that_comes_is_named() -> None:
    assert names_changed("Model(Base)", "Model(Extra, Base)") == ["base class Extra"]


def test_a_base_that_is_replaced_is_named_with_the_new_one() -> None:
    found = names_changed("Model(Base)", "Model(Other)")
    assert sorted(found) == ["annotation of Base.size", "base class Base", "base class Other"]


def test_another_order_of_the_same_bases_is_named() -> None:
    cell = CELL.replace("Model(Base)", "Model(Base, Extra)")
    found = names_changed("Model(Base, Extra)", "Model(Extra, Base)", cell)
    assert found == ["order of base classes"]


def test_an_annotation_is_named() -> None:
    assert names_changed("rate: int", "rate: float") == ["annotation of Model.rate"]
