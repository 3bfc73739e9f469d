"""An image's USER: methods run as it, build hooks and process 1 as root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from conftest import BASE_IMAGE

import lifecycle_magic as lm
from lifecycle_magic.exception import StartError
from lifecycle_magic.session import session

pytestmark = pytest.mark.docker

DOCKERFILE = f"""\
FROM {BASE_IMAGE}
RUN useradd --create-home --uid 1234 app && groupadd --gid 77 extra && usermod -aG extra app
USER """


class Probe:
    """Says who it is. Its hook says who made the layer."""

    @lm.build()
    def bake(self) -> None:
        with open(os.path.expanduser("~/.baked"), "w") as file:
            file.write(str(os.getuid()))

    @lm.method()
    def ids(self) -> Any:
        return [os.getresuid(), os.getresgid(), sorted(os.getgroups()), os.path.expanduser("~")]

    @lm.method()
    def baked(self) -> str:
        with open(os.path.expanduser("~/.baked")) as file:
            return file.read()

    @lm.method()
    def write(self, path: str) -> int:
        with open(path, "w"):
            return os.stat(path).st_uid

    @lm.method()
    def listing(self, path: str) -> int:
        return len(os.listdir(path))


@pytest.fixture
def app(need_docker: docker.DockerClient, request: pytest.FixtureRequest) -> Iterator[lm.App]:
    yield lm.App(request.node.name, engine="docker")
    session.close("the test is over")


def image(folder: Path, user: str) -> lm.Image:
    (folder / "Dockerfile").write_text(f"{DOCKERFILE}{user}\n")
    return lm.Image.from_dockerfile(folder / "Dockerfile")


def test_methods_run_as_the_images_user_and_its_hook_as_root(app: lm.App, tmp_path: Path) -> None:
    volume = lm.Volume.ephemeral()
    probe = app.cls(Probe, image=image(tmp_path, "app"), volumes={"/scratch": volume})()
    assert probe.ids.remote() == [(1234,) * 3, (1234,) * 3, [77, 1234], "/home/app"]
    assert probe.baked.remote() == "0"
    assert probe.write.remote("/scratch/file") == 1234
    assert probe.write.remote("/dev/stdout") == 1234
    assert probe.listing.remote("/proc/self/fd") > 3
    with pytest.raises(PermissionError):
        probe.write.remote("/srv/file")


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("4321", [(4321,) * 3, (0,) * 3, [0], "/"]),
        ("app:extra", [(1234,) * 3, (77,) * 3, [77], "/home/app"]),
        ("1234:88", [(1234,) * 3, (88,) * 3, [88], "/home/app"]),
    ],
)
def test_a_user_is_read_as_docker_reads_it(
    app: lm.App, tmp_path: Path, user: str, ids: list[Any]
) -> None:
    assert app.cls(Who, image=image(tmp_path, user))().ids.remote() == ids


class Who:
    @lm.method()
    def ids(self) -> Any:
        return [os.getresuid(), os.getresgid(), sorted(os.getgroups()), os.path.expanduser("~")]


@pytest.mark.parametrize(
    ("user", "what"), [("nosuch", "no user 'nosuch'"), ("app:nosuch", "no group 'nosuch'")]
)
def test_a_user_that_does_not_exist_is_refused_by_name(
    app: lm.App, tmp_path: Path, user: str, what: str
) -> None:
    with pytest.raises(StartError, match=rf"USER is '{user}'.*{what}.*Fix:"):
        app.cls(Who, image=image(tmp_path, user))().ids.remote()
