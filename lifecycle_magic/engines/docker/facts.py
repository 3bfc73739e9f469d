"""The facts that a Docker engine reports, and whether it is usable.

An engine must run Linux containers. One that is named by ``DOCKER_HOST`` alone must also see this
machine's files, unless `choose` takes it for one on another machine.
"""

from __future__ import annotations

import dataclasses
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

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


_OLDEST = (1, 40)  # Docker 19.03
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
    id: str = ""  # the engine's own
    managed_nodes: int = 0  # of the swarm that it manages
    is_podman: bool = False

    @classmethod
    def of(
        cls, info: dict[str, Any], api_version: str = "1.41", *, is_podman: bool = False
    ) -> Facts:
        """Return the facts in the engine's ``/info``, and the version of the API used with it."""
        rootless = bool(info.get("Rootless"))  # Podman's; Docker's is an option of security
        # Such a Podman reports limits as usual, and applies none.
        limits = not (rootless and str(info.get("CgroupVersion")) == "1")
        return cls(
            name=info.get("Name") or "",
            version=info.get("ServerVersion") or "unknown",
            system=info.get("OperatingSystem") or "",
            os_type=info.get("OSType") or "",
            cores=info.get("NCPU") or 1,
            memory=info.get("MemTotal") or 0,
            security=(
                *(info.get("SecurityOptions") or ()),
                *(("name=rootless",) if rootless else ()),
            ),
            limits_memory=limits and bool(info.get("MemoryLimit", True)),
            limits_cpu=limits and bool(info.get("CpuCfsQuota", True)),
            limits_pids=limits and bool(info.get("PidsLimit", True)),
            arch=_ARCHITECTURES.get(info.get("Architecture", ""), info.get("Architecture", "")),
            host_gateway=_numbers(api_version) >= _HOST_GATEWAY,
            id=info.get("ID") or "",
            managed_nodes=_managed_nodes(info.get("Swarm") or {}),
            is_podman=is_podman,
        )

    @property
    def desktop(self) -> bool:
        """Return whether its containers live in a virtual machine of Docker Desktop's."""
        return "Docker Desktop" in self.system

    def secured_by(self, name: str) -> bool:
        """Return whether the engine runs with this security option: ``selinux``, ``userns``."""
        return any(option.split(",")[0] == f"name={name}" for option in self.security)


def read(clients: Clients, *, far: bool = False) -> Facts:
    """Ask the engine; raises `EngineUnavailable` if it is not one for us.

    Unless it may be ``far``, it must be on this machine.
    """
    spoken = clients.version
    if _numbers(spoken.api) < _OLDEST:
        raise EngineUnavailable(
            f"the engine at {clients.location.shown} is too old: it is {spoken.product} "
            f"{spoken.version} with version {spoken.api} of the API, and 1.40 is needed. "
            "Fix: update it to Docker 19.03 or newer"
        )
    with clients.use("tell about itself") as api:
        facts = Facts.of(api.info(), api.api_version, is_podman=spoken.is_podman)
    if facts.os_type != "linux":
        raise EngineUnavailable(
            f"the engine at {clients.location.shown} runs {facts.os_type} containers, and "
            "Linux ones are needed: switch Docker Desktop to Linux containers"
        )
    if far:
        # There, "the host" would be another machine than the kernel's.
        return dataclasses.replace(facts, host_gateway=False)
    if not _is_local(facts, clients.location.url):
        raise EngineUnavailable(
            f"the engine at {clients.location.shown} runs on another machine ({facts.name}), "
            "which does not see this one's files. Fix: name it with engine=, as in "
            f"engine={clients.location.shown!r}, or use one on this machine (unset DOCKER_HOST)"
        )
    return facts


def _managed_nodes(swarm: dict[str, Any]) -> int:
    return int(swarm.get("Nodes") or 0) if swarm.get("ControlAvailable") else 0


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _is_local(facts: Facts, url: str) -> bool:
    """Return whether the engine sees this machine's files."""
    where = urlsplit(url)
    if where.scheme in ("unix", "npipe"):
        return True
    return facts.name == socket.gethostname() or (
        where.hostname in ("127.0.0.1", "localhost", "::1") and facts.desktop
    )
