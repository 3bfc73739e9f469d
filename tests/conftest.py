"""What every kind of test shares: what it needs from the machine, and where state lies.

A test names what it needs as a fixture. Where that is missing the test is skipped with the
reason; in CI, which sets everything up itself, it fails instead.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import docker
import docker.errors
import pytest
import requests

# A shell that starts this in the background has it ignore SIGINT, which tests send to themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)

IN_CI = os.environ.get("CI") == "true"
BASE_IMAGE = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
LABEL_PREFIX = "lifecycle-magic."


def missing(reason: str) -> NoReturn:
    """Skip with ``reason``; fail in CI."""
    if IN_CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _client() -> docker.DockerClient | str:
    """A client of the engine that answers, or why there is none."""
    # docker-py leaves its sockets open when nothing answers; they go here, and quietly.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            return docker.from_env(timeout=60)
        except docker.errors.DockerException as error:
            reason = str(error)
        gc.collect()
    return reason


@pytest.fixture(scope="session")
def need_docker() -> Iterator[docker.DockerClient]:
    """A client of an engine that answers and has the base image."""
    client = _client()
    if isinstance(client, str):
        missing(f"no Docker engine answers ({client}): run `make engine`")
    with closing(client):
        try:
            client.images.get(BASE_IMAGE)
        except docker.errors.ImageNotFound:
            missing(f"the engine has no {BASE_IMAGE}: run `make engine`")
        yield client


@pytest.fixture(scope="session")
def need_bwrap() -> str:
    """The path of bubblewrap."""
    path = shutil.which("bwrap")
    return path or missing("bwrap is not on the path: install bubblewrap")


@pytest.fixture(scope="session")
def need_chromium() -> str:
    """The path of Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    return path or missing("chromium is not on the path: install it")


@pytest.fixture(scope="session")
def need_js() -> Path:
    """The folder of the panel's front end, with what it is built and tested with."""
    folder = Path(__file__).parents[1] / "js"
    if shutil.which("node") is None:
        missing("node is not on the path: install Node.js 20 or newer")
    if not (folder / "node_modules").is_dir():
        missing("js/node_modules is missing: run scripts/js.sh")
    return folder


@pytest.fixture(
    params=[
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("process", marks=pytest.mark.process),
    ]
)
def engine_name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test once on each engine, here and in what the test starts."""
    if request.param == "docker":
        request.getfixturevalue("need_docker")
    monkeypatch.setenv("LIFECYCLE_MAGIC_ENGINE", request.param)
    return str(request.param)


@pytest.fixture(scope="session", autouse=True)
def state_dir() -> Iterator[Path]:
    """Keep run folders, layers and volumes of tests out of the user's own state.

    One for each pytest process, so that its tests share layers. Its path is short because a Unix
    socket's path may have 107 characters at most.
    """
    path = Path(tempfile.mkdtemp(prefix="lm-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFECYCLE_MAGIC_STATE", str(path))
        yield path
    # A keeper may still be removing its instance's folder: two removers get in each other's way.
    deadline = time.monotonic() + 10
    while path.exists() and time.monotonic() < deadline:
        shutil.rmtree(path, ignore_errors=True)
    assert not path.exists(), f"something still writes below {path}"


def _containers(client: docker.DockerClient) -> dict[str, str]:
    """Id to name of every container of ours, whoever started it."""
    return {
        str(container.id): str(container.name)
        for container in client.containers.list(all=True, ignore_removed=True)
        if any(label.startswith(LABEL_PREFIX) for label in container.labels)
    }


def _outlives(client: docker.DockerClient, container: str) -> bool:
    """Whether it is still there after ten seconds: its exit may be under way."""
    try:
        client.api.wait(container, timeout=10, condition="removed")
    except docker.errors.NotFound:
        return False
    except requests.RequestException:
        return True
    return False


_before = pytest.StashKey[frozenset[str]]()
_left = pytest.StashKey[list[str]]()


def pytest_sessionstart(session: pytest.Session) -> None:
    if not IN_CI or hasattr(session.config, "workerinput"):
        return
    client = _client()
    if not isinstance(client, str):
        with closing(client):
            session.config.stash[_before] = frozenset(_containers(client))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI, where nobody else starts containers, one that is left fails the run."""
    before = session.config.stash.get(_before, None)
    client = _client() if before is not None else "not asked for"
    if before is None or isinstance(client, str):
        return
    with closing(client):
        left = [
            name
            for id_, name in _containers(client).items()
            if id_ not in before and _outlives(client, id_)
        ]
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        session.config.stash[_left] = left


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    left = config.stash.get(_left, [])
    if left:
        terminalreporter.section("containers that the tests left")
        terminalreporter.line("\n".join(left))
