"""Engines without root: Debian's Podman and Docker as the service of a user that the tests make.

They take user namespaces with a range of ids, a network by slirp4netns, and `/dev/net/tun` and
`/dev/fuse` as udev leaves them: open to all. Where they are not, the services get device files of
their own, in their own mount namespace.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import answering
import docker
import psutil
import pytest
from conftest import BASE_IMAGE
from kernel.harness import wait_for

_CONTRIB = "/usr/share/docker.io/contrib"  # where Debian has dockerd-rootless.sh
_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin:{_CONTRIB}"
_TOOLS = {
    "podman": ("podman", "runc", "newuidmap", "slirp4netns"),
    "docker": ("dockerd", "dockerd-rootless.sh", "rootlesskit", "newuidmap", "slirp4netns"),
}

# Control groups of both versions side by side are refused by Podman's usual runtime.
_SETTINGS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
helper_binaries_dir = ["/usr/lib/podman", "/usr/libexec/podman"]
"""

# Otherwise it may choose copies of whole file systems.
_STORAGE = """\
[storage]
driver = "overlay"
runroot = "{folder}/run/storage"
graphroot = "{folder}/data"
"""

_DEVICES = """\
mount --make-rprivate / && mount -t tmpfs tmpfs {folder}/dev || exit
mknod -m 666 {folder}/dev/tun c 10 200 && mount --bind {folder}/dev/tun /dev/net/tun || exit
mknod -m 666 {folder}/dev/fuse c 10 229 && mount --bind {folder}/dev/fuse /dev/fuse || exit
"""


class RootlessEngine:
    """An engine and its user. ``url`` is its address; ``run`` runs programs as the user."""

    def __init__(self, kind: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lm-rootless-", dir="/var/tmp"))
        self.kind = kind
        self.user = f"lm-{secrets.token_hex(4)}"
        self.url = f"unix://{self.folder}/run/engine.sock"
        self.uid = -1
        self._ids = range(0)  # of users in its containers
        self._service: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make the user and start the engine. Raises `OSError` where that is impossible."""
        made = ["useradd", "--home-dir", str(self.folder), "--user-group", self.user]
        subprocess.run(made, check=True, capture_output=True)
        self.uid = pwd.getpwnam(self.user).pw_uid
        ranges = [line.split(":") for line in Path("/etc/subuid").read_text().split()]
        own = [line for line in ranges if line[0] == self.user]
        if not own:
            raise OSError("useradd gives its users no range of ids (/etc/subuid)")
        self._ids = range(int(own[0][1]), int(own[0][1]) + int(own[0][2]))
        settings = self.folder / ".config" / "containers"
        settings.mkdir(parents=True)
        (settings / "containers.conf").write_text(_SETTINGS)
        (settings / "storage.conf").write_text(_STORAGE.format(folder=self.folder))
        for name in ("run", "dev"):
            (self.folder / name).mkdir(mode=0o700)
        subprocess.run(["chown", "-R", f"{self.user}:", str(self.folder)], check=True)
        serve = {
            "podman": ("podman", "system", "service", "--time=0", self.url),
            "docker": ("dockerd-rootless.sh", f"--host={self.url}"),
        }
        command = _DEVICES.format(folder=self.folder)
        command += f"exec {shlex.join([*self.prefix, *serve[self.kind]])}"
        with open(self.folder / "log", "wb") as log:
            self._service = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", command],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._answers, f"an answer of the engine; its log is {self.folder}/log", 60)

    @property
    def prefix(self) -> list[str]:
        """The words in front of a command that make it the user's."""
        return [
            *("setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--init-groups"),
            *("env", "-i", f"HOME={self.folder}", f"PATH={_PATH}"),
            f"XDG_RUNTIME_DIR={self.folder}/run",
        ]

    def python(self, *words: str) -> subprocess.Popen[str]:
        """Start this process's Python as the user, wherever it and the package lie."""
        caps = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        setpriv, *others = self.prefix
        return subprocess.Popen(
            [setpriv, *caps, *others, *words],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _answers(self) -> bool:
        assert self._service is not None
        if self._service.poll() is not None:
            raise OSError((self.folder / "log").read_text()[-2000:])
        return answering.pings(self.url.removeprefix("unix://"))

    def load(self, source: docker.DockerClient) -> None:
        """Give it the base image that another engine has."""
        with contextlib.closing(docker.DockerClient(base_url=self.url, timeout=120)) as client:
            client.images.load(source.images.get(BASE_IMAGE).save(named=BASE_IMAGE))

    def close(self) -> None:
        """End what the user runs, and remove the user and the folder."""
        wait_for(lambda: not self._kill(), "the end of the user's processes")
        if self._service is not None:
            self._service.wait()
        subprocess.run(["userdel", self.user], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", str(self.folder)], check=False)

    def _kill(self) -> bool:
        """Kill the user's processes, those of containers too; return whether there were any."""
        found = False
        if self.uid == -1:
            return False
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                uid = process.uids().real
                is_own = uid == self.uid or uid in self._ids
                if is_own and process.status() != psutil.STATUS_ZOMBIE:
                    os.kill(process.pid, signal.SIGKILL)
                    found = True
        return found


@contextlib.contextmanager
def rootless_engine(kind: str, source: docker.DockerClient) -> Iterator[RootlessEngine]:
    """An engine of that kind, with the base image of ``source``.

    A machine that can't have one skips the test, in CI too.
    """
    tools = (*_TOOLS[kind], "setpriv", "useradd", "unshare")
    lacking = [tool for tool in tools if shutil.which(tool, path=_PATH) is None]
    if lacking or os.geteuid() != 0:
        pytest.skip(f"the tests make a rootless {kind} as root with {', '.join(lacking or tools)}")
    engine = RootlessEngine(kind)
    try:
        try:
            engine.start()
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"a rootless {kind} does not start here: {error}")
        engine.load(source)
        yield engine
    finally:
        engine.close()
