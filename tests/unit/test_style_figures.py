"""The code keeps the form that docs/architecture.md gives figures of."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def figures() -> dict[str, str]:
    """Return the figures of the script that prints the page's table."""
    path = ROOT / "scripts" / "style_figures.py"
    spec = importlib.util.spec_from_file_location("style_figures", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script.figures()


def number(text: str) -> float:
    """Return the last number of a figure, which is the most or the only one."""
    return float(text.removesuffix(" %").rpartition(", ")[2])


def test_the_code_keeps_its_form_and_the_page_lists_its_figures() -> None:
    found = figures()
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert [what for what in found if f"| {what} |" not in page] == []
    bounds = {
        "lines of a module, median and most": 400,
        "lines of a function's body, median, 95 % and most": 80,
        "imports of private names from another module": 2,  # the version, by both
        "docstrings that begin with *what*, *whether*, *how* or *who*": 1,
        "docstrings with words that puzzle readers": 0.5,
    }
    assert {what: found[what] for what, most in bounds.items() if number(found[what]) > most} == {}
    assert number(found["docstrings"]) > 4000, "the code was not found"


def test_no_two_public_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for path in sorted((ROOT / "lifecycle_magic").rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    # These two are one public name each, in the kernel and in containers.
    shared = {name: found for name, found in places.items() if len(found) > 1}
    assert {"Cls", "Function"} == set(shared), shared
