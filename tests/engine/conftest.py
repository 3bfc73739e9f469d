"""Fixtures of the tests of calls and of web endpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from engine.web import Street
from engine.web import street as make_street
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


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("process", marks=pytest.mark.process),
    ],
)
def street(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Street]:
    """What the tests of one module serve, once on each engine."""
    if request.param == "docker":
        request.getfixturevalue("need_docker")
    folder = tmp_path_factory.mktemp("notes")
    with make_street(request.param, request.module.__name__.rpartition(".")[2], folder) as one:
        yield one
