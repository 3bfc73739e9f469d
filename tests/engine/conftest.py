"""Fixtures of the tests of calls, of web endpoints, and of the engines behind their seam."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import docker
import pytest
from engine.bench import DockerBench, ProcessBench
from engine.far_work import FarDiary
from engine.web import Street
from engine.web import street as make_street
from engine.work import Site
from far_machine import FarMachine
from kernel.harness import wait_for

import lifecycle_magic as lm
from lifecycle_magic.engines.docker.engine import DockerEngine
from lifecycle_magic.engines.process.engine import ProcessEngine
from lifecycle_magic.session import session


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


@pytest.fixture
def in_docker(need_docker: docker.DockerClient, tmp_path: Path) -> Iterator[DockerBench]:
    """A bench of the docker engine."""
    with (
        closing(DockerEngine()) as engine,
        closing(DockerBench(engine, need_docker, tmp_path)) as bench,
    ):
        yield bench


@pytest.fixture
def sandboxed(need_bwrap: str, tmp_path: Path) -> Iterator[ProcessBench]:
    """A bench of the process engine with a sandbox."""
    with closing(ProcessBench(ProcessEngine(sandbox=True), tmp_path)) as bench:
        yield bench


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[ProcessBench]:
    """A bench of the process engine without one."""
    with closing(ProcessBench(ProcessEngine(sandbox=False), tmp_path)) as bench:
        yield bench


@pytest.fixture
def far(machine: FarMachine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What leads to the other machine is set, and nothing stays there."""
    for name, value in machine.env.items():
        monkeypatch.setenv(name, value)
    yield
    session.close("the test is over")
    wait_for(lambda: machine.containers() == [], "the removal of containers there")


@pytest.fixture
def diary(machine: FarMachine, request: pytest.FixtureRequest) -> FarDiary:
    """What hooks on the other machine note."""
    plain = "".join(one for one in request.node.name if one.isalnum())
    return FarDiary(machine, f"diary-{plain[-40:]}")
