"""What interrupted work leaves on a Docker engine: nothing, however often it is interrupted."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker
import docker.errors
import pytest
from engine.bench import DockerBench

from lifecycle_magic.engines.docker import address
from lifecycle_magic.engines.docker.client import MOST_IDLE
from lifecycle_magic.engines.docker.names import tag
from lifecycle_magic.exception import BuildError, EngineError
from lifecycle_magic.images.image import Image

pytestmark = [pytest.mark.docker, pytest.mark.slow]

ROUNDS = int(os.environ.get("LIFECYCLE_MAGIC_ROUNDS", 12))  # of each kind of work


def connections() -> int:
    """This process's connections to the engine."""
    where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                with socket.socket(fileno=os.dup(int(name))) as sock:
                    count += sock.getpeername() == where
    return count


def test_a_forked_child_has_none_of_the_connections(in_docker: DockerBench) -> None:
    engine = in_docker.engine
    engine.containers()
    ours = address.open_sockets()
    expected = connections() - len(ours)  # those of the tests' own client
    assert ours
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, str(connections()).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert int(os.read(reader, 100)) == expected
    os.close(reader)
    os.close(writer)
    engine.containers()


def interrupted(work: Callable[[], Any], after: float) -> None:
    """Do ``work``, and have it interrupted so many seconds after its beginning if it still runs."""
    over = threading.Event()

    def interrupt() -> None:
        if not over.wait(after):
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    try:
        thread.start()
        with contextlib.suppress(EngineError, BuildError):
            work()
        over.set()
        thread.join()
    except KeyboardInterrupt:
        thread.join()


@pytest.fixture
def mark() -> str:
    return secrets.token_hex(8)


def marked(client: docker.DockerClient, mark: str) -> tuple[list[str], list[str]]:
    """The containers, and the images without a name, that have ``mark`` among their variables."""
    containers, images = [], []
    for one in client.api.containers(all=True):
        with contextlib.suppress(docker.errors.NotFound):
            if mark in str(client.api.inspect_container(one["Id"])["Config"]["Env"]):
                containers.append(one["Names"][0])
    for image in client.api.images(filters={"dangling": True}):
        with contextlib.suppress(docker.errors.NotFound):
            if mark in str(client.api.inspect_image(image["Id"])["Config"]["Env"]):
                images.append(image["Id"])
    return containers, images


@pytest.fixture
def moments() -> Iterator[float]:
    return iter([0.7 * number / ROUNDS for number in range(1, ROUNDS + 1)])


@pytest.mark.parametrize("step", ["command", "packages"])
def test_interrupted_builds_leave_no_container_image_or_connection(
    in_docker: DockerBench, mark: str, moments: Iterator[float], step: str
) -> None:
    engine = in_docker.engine
    image = Image.debian_slim().env({"MARK": mark})
    if step == "command":
        image = image.run_commands("sleep 60")
    else:
        image = image.pip_install("nosuchpackage", extra_options="--no-index")

    def build() -> None:
        engine.build(image, secrets.token_hex(32), lambda told: None)

    interrupted(build, 1.5)  # the layers that it makes stay in the engine's cache
    assert wait_until(lambda: marked(in_docker.client, mark)[0] == [])
    _, images = marked(in_docker.client, mark)
    before = connections()
    for moment in moments:
        interrupted(build, moment)
    assert wait_until(lambda: marked(in_docker.client, mark) == ([], images))
    assert connections() <= before + 1


def test_interrupted_starts_leave_no_container_or_connection(
    in_docker: DockerBench, mark: str, moments: Iterator[float]
) -> None:
    built = in_docker.image(Image.debian_slim().env({"MARK": mark}))
    before = connections()

    def start() -> None:
        launch = in_docker.describe(built)
        in_docker.launched.append(launch.name)
        in_docker.engine.kill(in_docker.engine.launch(launch))

    for moment in moments:
        interrupted(start, moment)
        in_docker.engine.kill(in_docker.launched.pop())
    assert wait_until(lambda: marked(in_docker.client, mark)[0] == [])
    assert connections() <= before + 1


def test_interrupted_commits_leave_no_image_without_a_name(
    in_docker: DockerBench, mark: str, moments: Iterator[float]
) -> None:
    built = in_docker.image(Image.debian_slim().env({"MARK": mark}))
    far = in_docker.start(built)
    far.ask("write('/kept', 'x' * 1000)")
    before = connections()
    keys = []
    for moment in moments:
        keys.append(secrets.token_hex(32))
        interrupted(lambda: in_docker.engine.commit(far.id, keys[-1]), moment)
    for key in keys:
        with contextlib.suppress(docker.errors.ImageNotFound):
            in_docker.client.images.remove(tag(key))
    assert wait_until(lambda: marked(in_docker.client, mark)[1] == [])
    assert connections() <= before + 1


def test_many_threads_at_once_leave_few_connections(in_docker: DockerBench) -> None:
    before = connections()
    with ThreadPoolExecutor(24) as threads:
        list(threads.map(lambda _: in_docker.engine.containers(), range(96)))
    assert connections() <= before + MOST_IDLE


def wait_until(condition: Callable[[], bool]) -> bool:
    """Whether ``condition`` comes to hold; the engine ends what it was doing by itself."""
    for _ in range(200):
        if condition():
            return True
        threading.Event().wait(0.1)
    return condition()
