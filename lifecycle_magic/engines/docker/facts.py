"""The facts that a Docker engine reports, and whether it is usable.

Run folder, guest and volumes are mounts of this machine's folders, so an engine must run Linux
containers and see this machine's files.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from lifecycle_magic.engines.docker.address import docker_host
from lifecycle_magic.engines.docker.client import Clients
from lifecycle_magic.exception import EngineUnavailable

# What the kernel calls a processor, and what images do (GOARCH).
_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "i386": "386",
    "i686": "386",
}


_HOST_GATEWAY = (1, 41)  # Docker 20.10


@dataclass(frozen=True)
class Facts:
    """What was read from the engine once. ``memory`` is in bytes; three say what its kernel can
    limit. ``arch`` is what its processors are called in images: ``amd64``, ``arm64``.
    """

    name: str
    version: str
    system: str
    os_type: str
    cores: int
    memory: int
    security: tuple[str, ...]
    limits_memory: bool
    limits_cpu: bool
    limits_pids: bool
    arch: str = ""
    host_gateway: bool = True  # it can give containers a name for its machine

    @classmethod
    def of(cls, info: dict[str, Any], api_version: str = "1.41") -> Facts:
        """Return the facts in the engine's ``/info``, and the version of the API used with it."""
        return cls(
            name=info.get("Name") or "",
            version=info.get("ServerVersion") or "unknown",
            system=info.get("OperatingSystem") or "",
            os_type=info.get("OSType") or "",
            cores=info.get("NCPU") or 1,
            memory=info.get("MemTotal") or 0,
            security=tuple(info.get("SecurityOptions") or ()),
            limits_memory=bool(info.get("MemoryLimit", True)),
            limits_cpu=bool(info.get("CpuCfsQuota", True)),
            limits_pids=bool(info.get("PidsLimit", True)),
            arch=_ARCHITECTURES.get(info.get("Architecture", ""), info.get("Architecture", "")),
            host_gateway=_numbers(api_version) >= _HOST_GATEWAY,
        )

    @property
    def desktop(self) -> bool:
        """Return whether its containers live in a virtual machine of Docker Desktop's."""
        return "Docker Desktop" in self.system

    def secured_by(self, name: str) -> bool:
        """Return whether the engine runs with this security option: ``selinux``, ``userns``."""
        return any(option.split(",")[0] == f"name={name}" for option in self.security)


def read(clients: Clients) -> Facts:
    """Ask the engine; raises `EngineUnavailable` if it is not one for us."""
    with clients.use("tell about itself") as api:
        facts = Facts.of(api.info(), api.api_version)
    if facts.os_type != "linux":
        raise EngineUnavailable(
            f"the engine at {docker_host()} runs {facts.os_type} containers, and "
            "Linux ones are needed: switch Docker Desktop to Linux containers"
        )
    if not _is_local(facts):
        raise EngineUnavailable(
            f"the engine at {docker_host()} runs on another machine ({facts.name}), "
            "which does not see this one's files: use one on this machine (unset DOCKER_HOST)"
        )
    return facts


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _is_local(facts: Facts) -> bool:
    """Return whether the engine sees this machine's files."""
    where = urlsplit(docker_host())
    if where.scheme in ("unix", "npipe"):
        return True
    return facts.name == socket.gethostname() or (
        where.hostname in ("127.0.0.1", "localhost", "::1") and facts.desktop
    )
