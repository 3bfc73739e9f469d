"""The facts that a Docker engine reports, and whether it is usable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    """The facts that were read from the engine once.

    ``memory`` is in bytes; three say what its kernel can limit. ``arch`` is what its processors are
    called in images: ``amd64``, ``arm64``.
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
    kernel: str = ""  # the release of the Linux that its containers run on

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
            kernel=info.get("KernelVersion") or "",
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
    spoken = clients.version
    if _numbers(spoken.api) < _OLDEST:
        raise EngineUnavailable(
            f"the engine at {clients.location.shown} is too old: it is {spoken.product} "
            f"{spoken.version} with version {spoken.api} of the API, and 1.40 is needed. "
            "Fix: update it to Docker 19.03 or newer"
        )
    with clients.use("describe itself") as api:
        facts = Facts.of(api.info(), api.api_version, is_podman=spoken.is_podman)
    if facts.os_type != "linux":
        raise EngineUnavailable(
            f"the engine at {clients.location.shown} runs {facts.os_type} containers, and "
            "Linux ones are needed. Fix: switch Docker Desktop to Linux containers"
        )
    return facts


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _managed_nodes(swarm: dict[str, Any]) -> int:
    return int(swarm.get("Nodes") or 0) if swarm.get("ControlAvailable") else 0
