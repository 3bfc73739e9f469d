"""The examples in docstrings work as shown; those that need an engine are marked +SKIP."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import lifecycle_magic
from lifecycle_magic.session import session


def modules() -> list[str]:
    """Return the modules that show an example. Importing them all would slow the collection."""
    root = Path(lifecycle_magic.__file__).parent
    paths = [path for path in sorted(root.rglob("*.py")) if ">>> " in path.read_text()]
    names = [".".join(path.relative_to(root.parent).with_suffix("").parts) for path in paths]
    return ["benchmarks.figures", *(name.removesuffix(".__init__") for name in names)]


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """End the session that a test opens."""
    yield
    session.close("the test is over")


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_print_what_they_show(name: str) -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for example in finder.find(importlib.import_module(name)):
        runner.run(example, out=told.append)
    assert not runner.failures, "".join(told)
