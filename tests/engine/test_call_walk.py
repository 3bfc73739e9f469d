"""A warm call enters the modules that docs/architecture.md lists, on both sides, and no others."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine.work import Site

import lifecycle_magic as lm

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
SECTION = "A warm call, module by module"


def traced(entered: list[str]) -> Callable[[Any, str, Any], None]:
    """Return a profile function that notes each module of the package that a call enters."""

    def note(frame: Any, event: str, argument: Any) -> None:
        _, found, module = frame.f_code.co_filename.rpartition("/lifecycle_magic/")
        if event == "call" and found and module not in entered:
            entered.append(module)

    return note


class Model:
    @lm.enter()
    def load(self) -> None:
        self.entered: list[str] = []

    @lm.method()
    def begin(self) -> None:
        gc.disable()  # what it finalizes is of other calls
        sys.setprofile(traced(self.entered))

    @lm.method()
    def predict(self, x: int) -> int:
        return x

    @lm.method()
    def end(self) -> list[str]:
        sys.setprofile(None)
        gc.enable()
        return self.entered


def listed() -> list[list[str]]:
    """Return the modules of the page's two tables, kernel first."""
    section = PAGE.read_text().partition(f"## {SECTION}\n")[2].partition("\n## ")[0]
    tables = section.split("In the worker:")
    return [re.findall(r"^\| `([\w/]+\.py)` \|", table, re.MULTILINE) for table in tables]


@pytest.mark.process
def test_a_warm_call_enters_the_modules_of_the_page(site: Site) -> None:
    model = site.app.cls(Model)()
    entered: list[str] = []
    previous = sys.getprofile()
    for _ in range(3):
        model.predict.remote(1)
    gc.disable()
    sys.setprofile(traced(entered))
    try:
        model.predict.remote(2)
    finally:
        sys.setprofile(previous)
        gc.enable()
    model.begin.remote()
    for _ in range(3):
        model.predict.remote(3)
    inside = model.end.remote()
    assert listed() == [entered, sorted(inside, key=listed()[1].index)]
