"""A kernel for each engine that the tests of a module share, and a diary for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.harness import Diary, OwnKernel, event_loop_of_this_thread, own_kernel


@pytest.fixture(scope="module", autouse=True)
def event_loop() -> Iterator[None]:
    """Close the event loop that `jupyter_client` opens on the main thread."""
    with event_loop_of_this_thread():
        yield


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("process", marks=pytest.mark.process),
        pytest.param("plain", marks=pytest.mark.process),
    ],
)
def engine(request: pytest.FixtureRequest) -> str:
    """Docker, processes in a sandbox, and plain processes."""
    needs = {"docker": "need_docker", "process": "need_bwrap"}
    if request.param in needs:
        request.getfixturevalue(needs[request.param])
    return str(request.param)


@pytest.fixture(scope="module")
def kernel(
    engine: str, tmp_path_factory: pytest.TempPathFactory, event_loop: None, state_dir: Path
) -> Iterator[OwnKernel]:
    """A kernel that a module's tests share; each has classes of its own."""
    with own_kernel(tmp_path_factory.mktemp("kernel") / "tmp") as one:
        yield one


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path / "out")
