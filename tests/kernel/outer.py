"""A container around everything, as JupyterHub and devcontainers have it: no engine's socket, no
namespaces, so classes run as plain processes in it.

The host's Python, this environment and this checkout are mounted where they are on the host.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import docker
from docker.models.containers import Container

ROOT = Path(__file__).parents[2]
INSIDE = Path(__file__).with_name("inside_outer.py")
BASE_IMAGE = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
WITHOUT_EXTENSION = (
    "--ServerApp.jpserver_extensions={'lifecycle_magic.ui.notebook.server_extension': False}",
)
SERVER = (
    *(sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser", "--ip=127.0.0.1"),
    *("--port=8888", "--IdentityProvider.token=outer", "--ServerApp.root_dir=/tmp"),
)


@dataclass(frozen=True)
class Outer:
    """A running outer container, and the folder ``/out`` that its processes write to."""

    container: Container
    out: Path

    def run(self, *command: str) -> tuple[int, str]:
        """Run a command in it; its exit code and what it printed."""
        code, printed = self.container.exec_run(list(command))
        return int(code), printed.decode(errors="replace")

    def python(self, program: str) -> str:
        """Run a program there, in a process of its own; what it printed."""
        code, printed = self.run(sys.executable, "-c", program)
        assert code == 0, printed
        return printed

    def cell(self, text: str) -> str:
        """Run a cell in a new kernel of the server; what it printed."""
        code, printed = self.run(sys.executable, str(INSIDE), json.dumps(text))
        assert code == 0, f"{printed}\n{self.log()}"
        return printed

    def log(self) -> str:
        return str(self.container.logs().decode(errors="replace"))

    def stop(self, seconds: int = 40) -> None:
        """``docker stop``, and no kill before so many seconds."""
        subprocess.run(
            ["docker", "stop", "--time", str(seconds), str(self.container.id)],
            check=True,
            stdout=subprocess.DEVNULL,
        )


@contextlib.contextmanager
def outer(
    client: docker.DockerClient,
    out: Path,
    command: list[str],
    *,
    user: int = 0,
    exec_home: bool = True,
    binds: Mapping[str, str] = MappingProxyType({}),
    **options: object,
) -> Iterator[Outer]:
    """Run ``command`` as process 1 of an outer container.

    ``binds`` are further files of the host, ``options`` docker-py's.
    """
    out.mkdir(exist_ok=True)
    out.chmod(0o777)
    folders = {str(ROOT), sys.prefix, sys.base_prefix} - {"/usr", "/usr/local"}
    volumes = [f"{folder}:{folder}:ro" for folder in sorted(folders)]
    volumes += [f"{source}:{path}:ro" for source, path in binds.items()]
    # The image's /root is closed to other users, and a Python may lie below it.
    home = out.with_name("root")
    home.mkdir(mode=0o755, exist_ok=True)
    noexec = "exec" if exec_home else "noexec"
    container = client.containers.run(
        BASE_IMAGE,
        command,
        detach=True,
        user=str(user),
        network_mode="none",
        read_only=True,
        tmpfs={"/tmp": f"{noexec},mode=1777"},
        environment={
            "HOME": "/tmp/home",
            "JUPYTER_RUNTIME_DIR": "/tmp/runtime",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LIFECYCLE_MAGIC_ENGINE": "process",
        },
        volumes=[*volumes, f"{home}:/root", f"{out}:/out"],
        **{"mem_limit": "1g", "pids_limit": 200, **options},
    )
    try:
        yield Outer(container, out)
    finally:
        container.remove(force=True)
