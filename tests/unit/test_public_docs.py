"""Everything public has a docstring that says what it does, and each of its examples is run."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lifecycle_magic as lm
from lifecycle_magic.callers.async_call import AsyncCall
from lifecycle_magic.handles.obj import Obj

ROOT = Path(__file__).parents[2]

RETURNED = (AsyncCall, Obj)
"""Classes without a public name whose objects users get."""


def members() -> Iterator[tuple[str, Any]]:
    """Yield each public function, class and method by its name."""
    for name in lm.__all__:
        if name.startswith("__"):
            continue
        found = getattr(lm, name)
        yield name, found
        if inspect.isclass(found):
            yield from methods(name, found)
    for cls in RETURNED:
        yield from methods(cls.__name__, cls)


def methods(name: str, cls: type) -> Iterator[tuple[str, Any]]:
    for member in sorted(vars(cls)):
        found = vars(cls)[member]
        if isinstance(found, (classmethod, staticmethod)):
            found = found.__func__
        if not member.startswith("_") and inspect.isfunction(inspect.unwrap(found)):
            yield f"{name}.{member}", found


MEMBERS = dict(members())


def test_what_users_hold_was_found() -> None:
    assert {"App.cls", "Image.pip_install", "Volume.from_name", "gather"} < set(MEMBERS)


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_a_docstring_says_what_it_does(name: str) -> None:
    text = inspect.getdoc(MEMBERS[name]) or ""
    first = text.partition("\n\n")[0]
    assert len(first.split()) >= 3, f"{name} has no docstring"
    assert first.rstrip().endswith((".", ":", "``")), f"{name}: {first}"
    if inspect.isfunction(MEMBERS[name]):
        verb = first.split()[0]
        assert verb.isalpha(), f"{name}: {first}"
        assert verb[0].isupper(), f"{name}: {first}"
        assert not verb.endswith(("ing", "ed")), f"{name}: {first}"


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_every_parameter_has_a_type(name: str) -> None:
    found = MEMBERS[name]
    if not inspect.isfunction(found):
        return
    signature = inspect.signature(found)
    for parameter in signature.parameters.values():
        if parameter.name not in ("self", "cls"):
            assert parameter.annotation is not parameter.empty, f"{name}({parameter})"
    assert signature.return_annotation is not signature.empty, f"{name} returns nothing by type"


def shown() -> str:
    """Return the Python code of the pages that tests run."""
    pages = [ROOT / "README.md", *sorted(ROOT.glob("docs/guides/*.md"))]
    text = "\n".join(page.read_text() for page in pages)
    return "\n".join(
        re.findall(r"^```(?:python|ipython)?[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    )


def runs(doc: str) -> bool:
    """Return whether a docstring has an example that is run."""
    examples = [line for line in doc.splitlines() if line.lstrip().startswith(">>> ")]
    return any("+SKIP" not in line for line in examples)


def test_every_public_name_has_an_example_that_is_run() -> None:
    code = shown()
    assert "lm.method" in code
    by_magic = {  # the two names that only IPython calls, and the panel, which needs a notebook
        "load_ipython_extension": code,
        "unload_ipython_extension": (ROOT / "tests/kernel/test_magic.py").read_text(),
        "panel": (ROOT / "docs/guides/notebook.md").read_text(),
    }
    written = {
        "load_ipython_extension": r"%load_ext lifecycle_magic",
        "unload_ipython_extension": r"%unload_ext lifecycle_magic",
        "panel": r"%lifecycle\b",
    }
    lacking = [
        name
        for name, found in MEMBERS.items()
        if "." not in name
        and not runs(inspect.getdoc(found) or "")
        and not re.search(written.get(name, rf"\blm\.{name}\b"), by_magic.get(name, code))
    ]
    assert lacking == [], ", ".join(lacking)
