"""The examples in docstrings work as shown; those that need an engine are marked +SKIP."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest

import benchmarks.figures
import lifecycle_magic
from lifecycle_magic.session import session


def modules() -> list[ModuleType]:
    found = pkgutil.walk_packages(lifecycle_magic.__path__, "lifecycle_magic.")
    names = [one.name for one in found if not one.name.endswith("__main__")]
    return [benchmarks.figures, *map(importlib.import_module, names)]


EXAMPLES = [
    example
    for module in modules()
    for example in doctest.DocTestFinder(exclude_empty=True).find(module)
    if example.examples
]


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """End the session that a test opens."""
    yield
    session.close("the test is over")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_prints_what_it_shows(example: doctest.DocTest) -> None:
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    runner.run(example, out=told.append)
    assert not runner.failures, "".join(told)
