"""Fixtures of the tests of calls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from engine.work import Site

import lifecycle_magic as lm
from lifecycle_magic import session


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """Containers as processes: they start within a tenth of a second."""
    folder = tmp_path / "notes"
    folder.mkdir()
    yield Site(lm.App(request.node.name, engine="process"), folder)
    session.close("the test is over")


@pytest.fixture
def site_on_each(
    engine_name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Site]:
    """The same, once on each engine."""
    folder = tmp_path / "notes"
    folder.mkdir()
    yield Site(lm.App(request.node.name, engine=engine_name), folder)
    session.close("the test is over")
