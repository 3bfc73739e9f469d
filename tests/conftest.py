"""What every kind of test shares: what it needs from the machine, and where state lies.

A test names what it needs as a fixture. Where that is missing the test is skipped with the
reason; in CI, which sets everything up itself, it fails instead.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import answering
import docker
import docker.errors
import pytest
import requests

from lifecycle_magic.engines.process import sandbox
from lifecycle_magic.host.owner import Owner

if TYPE_CHECKING:
    from far_machine import FarMachine

# A shell that starts this in the background has it ignore SIGINT, which tests send to themselves;
# nohup does so with SIGHUP, and what tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Tests of libraries that would change other tests by being there: see test_values_of_libraries.
collect_ignore = [] if os.environ.get("TEST_LIBRARIES") else ["libraries"]
if not os.environ.get("TEST_GPU"):
    collect_ignore.append("gpu")  # make test-gpu

IN_CI = os.environ.get("CI") == "true"
BASE_IMAGE = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
LABEL_PREFIX = "lifecycle-magic."


def missing(reason: str) -> NoReturn:
    """Skip with ``reason``; fail in CI."""
    if IN_CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def need_docker() -> Iterator[docker.DockerClient]:
    """A client of an engine that answers and has the base image."""
    with answering.client() as client:
        if isinstance(client, str):
            missing(f"no Docker engine answers ({client}): run `make engine`")
        try:
            client.images.get(BASE_IMAGE)
        except docker.errors.ImageNotFound:
            missing(f"the engine has no {BASE_IMAGE}: run `make engine`")
        yield client


@pytest.fixture(scope="session")
def need_bwrap() -> str:
    """The path of a bubblewrap that works here: an installed one may be forbidden."""
    probed = sandbox.probe()
    return probed.path or missing(f"no sandbox: {probed.detail}; {probed.fix}")


@pytest.fixture
def need_mounts(request: pytest.FixtureRequest) -> None:
    """An engine that has paths and a network of its own: Docker, or processes in a sandbox."""
    params = getattr(request.node, "callspec", None)
    if params is None or "docker" not in params.params.values():
        request.getfixturevalue("need_bwrap")


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


@pytest.fixture(scope="session")
def machine(need_docker: docker.DockerClient) -> Iterator[FarMachine]:
    """A second machine, which the tests of the group ``far`` share."""
    from far_machine import far_machine

    with far_machine(need_docker) as found:
        yield found


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
    _discard_ended(path)
    # A keeper may still be removing its instance's folder: two removers get in each other's way.
    deadline = time.monotonic() + 10
    while path.exists() and time.monotonic() < deadline:
        shutil.rmtree(path, ignore_errors=True)
    assert not path.exists(), f"something still writes below {path}"


@pytest.fixture(scope="module", autouse=True)
def no_process_left(state_dir: Path) -> Iterator[None]:
    """Fail where a module's tests leave a process: it would disturb those of another module."""
    earlier = {pid for pid, _ in _processes(state_dir)}
    yield
    deadline = time.monotonic() + 20  # of a container's end, which may be under way
    while left := [one for one in _processes(state_dir) if one[0] not in earlier]:
        if time.monotonic() > deadline:
            for pid, _ in left:  # one report is enough
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            pytest.fail(f"left by the module: {left}", pytrace=False)
        time.sleep(0.02)


def _processes(state: Path) -> list[tuple[int, str]]:
    """The id and command of every other process that has ``state`` in its command or variables."""
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if not command or pid == os.getpid():  # a zombie, a thread of the system, or this one
                continue
            if str(state).encode() in command + Path(f"/proc/{pid}/environ").read_bytes():
                found.append((pid, command.replace(b"\0", b" ").decode(errors="replace")[:300]))
    return found


def _discard_ended(state: Path) -> None:
    """Remove the containers of kernels that were killed, as a next session's sweep would."""
    # Not by `Path.glob`, which fails at a folder that goes meanwhile.
    names = {os.path.basename(path) for path in glob.glob(f"{state}/run/*/lm-*")}
    with answering.client() as client:
        if isinstance(client, str):
            return
        # A kernel that is killed right after `app.stop()` has removed the run folder already.
        filters = {"status": "exited", "label": f"{LABEL_PREFIX}role=container"}
        for one in client.api.containers(all=True, filters=filters):
            owner = Owner.of_label(one["Labels"].get(f"{LABEL_PREFIX}owner", ""))
            if owner is not None and not owner.alive():
                names.add(one["Names"][0].lstrip("/"))
        for name in names:
            with contextlib.suppress(docker.errors.APIError, requests.RequestException):
                client.api.wait(name, timeout=10)
                client.api.remove_container(name, v=True)


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


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give a test that runs again another name: its app's classes are there from the first run."""
    count = getattr(item, "execution_count", 1)
    if count > 1:
        item.name = f"{item.name}-{count}"


def pytest_sessionstart(session: pytest.Session) -> None:
    if not IN_CI or hasattr(session.config, "workerinput"):
        return
    with answering.client() as client:
        if not isinstance(client, str):
            session.config.stash[_before] = frozenset(_containers(client))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI, where nobody else starts containers, one that is left fails the run."""
    before = session.config.stash.get(_before, None)
    if before is None:
        return
    with answering.client() as client:
        if isinstance(client, str):
            return
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
    failed_once = terminalreporter.stats.get("rerun", [])
    if failed_once:
        terminalreporter.section("first errors of the tests that ran again")
        for report in failed_once:
            last = report.longreprtext.splitlines()[-25:]
            terminalreporter.line("\n".join([f"{report.nodeid}:", *last, ""]))
    left = config.stash.get(_left, [])
    if left:
        terminalreporter.section("containers that the tests left")
        terminalreporter.line("\n".join(left))
