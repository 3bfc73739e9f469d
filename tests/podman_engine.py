"""A Podman with folders and a network of its own, for tests of what it does otherwise than Docker.

It is the machine's own `podman`, started as a service on a socket of its own.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import answering
import docker
import docker.errors
import requests
from conftest import BASE_IMAGE, missing
from kernel.harness import wait_for

_TOOLS = ("podman", "runc", "unshare", "ip")

# Where root lacks CAP_SYS_RESOURCE it may not raise limits, and Podman's own are higher. Its usual
# runtime refuses control groups of both versions side by side.
_SETTINGS = """\
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{folder}/tmp"
helper_binaries_dir = ["/usr/lib/podman", "/usr/libexec/podman"]
[network]
network_backend = "netavark"
"""
_STORAGE = """\
[storage]
driver = "overlay"
runroot = "{folder}/run"
graphroot = "{folder}/data"
"""


class Podman:
    """The service. ``url`` is its address for `DOCKER_HOST` and ``engine=``."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lm-podman-", dir="/var/tmp"))
        self.url = f"unix://{self.folder}/podman.sock"
        self._env = {
            **os.environ,
            "CONTAINERS_CONF": f"{self.folder}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{self.folder}/storage.conf",
        }
        self._service: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the service, and wait for its answer. Raises `OSError`."""
        pids = int(Path("/proc/sys/kernel/pid_max").read_text())
        (self.folder / "containers.conf").write_text(
            _SETTINGS.format(
                folder=self.folder,
                files=_limit(resource.RLIMIT_NOFILE, 20_000),
                processes=_limit(resource.RLIMIT_NPROC, pids),
            )
        )
        (self.folder / "storage.conf").write_text(_STORAGE.format(folder=self.folder))
        serve = f"ip link set lo up; exec podman system service --time=0 {self.url}"
        with open(self.folder / "log", "wb") as log:
            self._service = subprocess.Popen(
                ["unshare", "--net", "sh", "-c", serve],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._answers, f"an answer of Podman; its log is {self.folder}/log")

    def _answers(self) -> bool:
        assert self._service is not None
        if self._service.poll() is not None:
            raise OSError((self.folder / "log").read_text()[-2000:])
        return answering.pings(self.url.removeprefix("unix://"))

    def client(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=self.url, timeout=60)

    def load(self, source: docker.DockerClient) -> None:
        """Give it the base image that another engine has."""
        with contextlib.closing(self.client()) as client:
            client.images.load(source.images.get(BASE_IMAGE).save(named=BASE_IMAGE))

    def close(self) -> None:
        """Remove its containers, end it, and remove its folder."""
        if self._service is not None and self._service.poll() is None:
            failures = docker.errors.DockerException, requests.RequestException
            with contextlib.suppress(*failures), contextlib.closing(self.client()) as client:
                for one in client.api.containers(all=True):
                    client.api.remove_container(one["Id"], force=True, v=True)
            self._service.kill()  # when asked politely it takes half a minute
            self._service.wait()
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in reversed([one for one in mounts if one.startswith(f"{self.folder}/")]):
            subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def podman_engine(source: docker.DockerClient) -> Iterator[Podman]:
    """Podman with the base image of ``source``."""
    lacking = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if lacking or os.geteuid() != 0:
        missing(f"this Podman takes root and {', '.join(lacking or _TOOLS)}")
    podman = Podman()
    try:
        try:
            podman.start()
        except OSError as error:
            missing(f"Podman does not start here: {error}")
        podman.load(source)
        yield podman
    finally:
        podman.close()


def _limit(kind: int, most: int) -> int:
    hard = resource.getrlimit(kind)[1]
    return most if hard == resource.RLIM_INFINITY else min(hard, most)
