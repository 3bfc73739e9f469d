"""A launch as the engine's API wants it: pure functions from `Launch` and facts to JSON.

The container is hardened in ways that package installs and ordinary user code do not notice; each
choice stands beside its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lifecycle_magic.engines.base import LABEL, Honoured, Launch, Mount
from lifecycle_magic.engines.limits import gpu_count, gpu_ids
from lifecycle_magic.exception import EngineError

GUEST = "/opt/lifecycle_magic"
RUN = "/run/lifecycle"

ROLE = f"{LABEL}.role"
VOLUME_PREFIX = "lifecycle-magic-"

# Code in a container is root there, for apt and pip, but with no more than they and daemons that
# drop their own rights use. CHOWN, DAC_OVERRIDE, FOWNER, FSETID: unpacking files as other users'.
# SETUID, SETGID: apt's sandbox, su. KILL: ending what has dropped to another user. Left out of
# Docker's own set are raw sockets, device nodes, chroot, audit, file capabilities; privileged ports
# need none since Docker 20.10.
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID")

# A fork bomb ends here; the largest thread pools do not come near.
PIDS_LIMIT = 4096

# What the guest prints before it keeps its own log would go with the container, so it is put into
# the run folder. The first entry of the path is the working folder, whose files must not pass for
# modules of the standard library.
_PRELUDE = """\
import os, sys
sys.path.pop(0)
del sys.argv[0]
log = os.open(sys.argv[1] + "/start.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
os.dup2(log, 1)
os.dup2(log, 2)
os.close(log)
sys.path.insert(0, sys.argv[0])
exec(open(sys.argv[0] + "/__main__.py").read())
"""


# What the kernel calls a processor, and what images do (GOARCH).
_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "i386": "386",
    "i686": "386",
}


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

    @classmethod
    def of(cls, info: dict[str, Any]) -> Facts:
        """From the engine's ``/info``."""
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
        )

    @property
    def desktop(self) -> bool:
        """Whether its containers live in a virtual machine of Docker Desktop's."""
        return "Docker Desktop" in self.system

    def secured_by(self, name: str) -> bool:
        """Whether the engine runs with this security option: ``selinux``, ``userns``."""
        return any(option.split(",")[0] == f"name={name}" for option in self.security)


def review(launch: Launch, facts: Facts, *, unix: bool) -> Honoured:
    """What of ``launch`` this engine can't honour."""
    refused, ignored = [], []
    if launch.block_network and not unix:
        refused.append(
            "block_network=True needs a container that reaches the kernel by a Unix socket, and "
            "this engine's containers reach it over TCP: use an engine on this Linux machine, "
            "or leave block_network out"
        )
    if launch.cpu is not None and launch.cpu > facts.cores:
        ignored.append(f"cpu={launch.cpu:g}: the engine has {facts.cores} cores; capped at that")
    if launch.cpu is not None and not facts.limits_cpu:
        ignored.append(f"cpu={launch.cpu:g}: the engine's kernel can't limit CPU time")
    if launch.memory is not None and not facts.limits_memory:
        ignored.append(f"memory={launch.memory}: the engine's kernel can't limit memory")
    elif launch.memory is not None and facts.memory and launch.memory << 20 > facts.memory:
        ignored.append(f"memory={launch.memory}: the engine has only {facts.memory >> 20} MiB")
    if launch.gpu is not None and _names_gpu_model(launch.gpu):
        ignored.append(
            f"gpu={launch.gpu!r}: the engine can't choose by model; it gives what is there"
        )
    return Honoured(tuple(refused), tuple(ignored))


def config(launch: Launch, facts: Facts) -> dict[str, Any]:
    """The body of ``POST /containers/create`` for ``launch``."""
    return {
        "Image": launch.image,
        "Entrypoint": ["python3", "-c", _PRELUDE, GUEST, RUN],
        "Cmd": [],
        "User": "0:0",
        "Labels": {**launch.labels, ROLE: "container"},
        "StopSignal": "SIGTERM",
        "StopTimeout": launch.stop_timeout,
        # The kernel watches a connection; an image's own health check would only cost.
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": _host_config(launch, facts),
    }


def _host_config(launch: Launch, facts: Facts) -> dict[str, Any]:
    host: dict[str, Any] = {
        "AutoRemove": True,
        "CapDrop": ["ALL"],
        "CapAdd": list(CAPABILITIES),
        "SecurityOpt": ["no-new-privileges"],
        # The guest is process 1 and reaps.
        "Init": False,
        # Output is in the run folder, capped; the engine need not keep it a second time.
        "LogConfig": {"Type": "none", "Config": {}},
        "Mounts": [
            _bind(str(launch.guest_dir), GUEST, read_only=True),
            _bind(str(launch.run_dir), RUN),
            *(_mount(mount, launch) for mount in launch.mounts),
        ],
    }
    if facts.secured_by("selinux"):
        # Else it may not open the mounted socket; relabelling a user's own folder would be worse.
        host["SecurityOpt"].append("label=disable")
    if facts.secured_by("userns"):
        # Else its root is a stranger to the 0700 run folder.
        host["UsernsMode"] = "host"
    if facts.limits_pids:
        host["PidsLimit"] = PIDS_LIMIT
    if launch.memory is not None and facts.limits_memory:
        # As much with swap as without: the limit is what was asked for.
        host["Memory"] = host["MemorySwap"] = launch.memory << 20
    if launch.cpu is not None and facts.limits_cpu:
        host["NanoCpus"] = int(min(launch.cpu, facts.cores) * 1e9)
    if launch.shm_size is not None:
        host["ShmSize"] = launch.shm_size << 20
    if launch.block_network:
        host["NetworkMode"] = "none"
    if launch.gpu is not None:
        host["DeviceRequests"] = [_gpu_request(launch.gpu)]
    return host


def _gpu_request(gpu: str | int) -> dict[str, Any]:
    if ids := gpu_ids(gpu):
        return {"Driver": "", "DeviceIDs": ids, "Capabilities": [["gpu"]]}
    count = gpu_count(gpu)
    return {"Driver": "", "Count": -1 if count is None else count, "Capabilities": [["gpu"]]}


def _names_gpu_model(gpu: str | int) -> bool:
    model = str(gpu).partition(":")[0]
    return not gpu_ids(gpu) and model not in {"any", "all"} and not model.isdecimal()


def _mount(mount: Mount, launch: Launch) -> dict[str, Any]:
    volume = mount.volume
    if volume.kind == "path":
        return _bind(str(volume.path), mount.path)
    # What the image has at that path stays hidden, as it does with a folder of the host.
    options: dict[str, Any] = {"NoCopy": True, "Labels": {ROLE: "volume"}}
    made: dict[str, Any] = {"Type": "volume", "Target": mount.path, "VolumeOptions": options}
    if volume.kind == "named":
        made["Source"] = volume_name(mount)
    return made


def volume_name(mount: Mount) -> str:
    """What the engine calls a named volume."""
    if mount.volume.name is None:
        raise EngineError(f"the volume at {mount.path} has no name")
    return VOLUME_PREFIX + mount.volume.name


def _bind(source: str, target: str, *, read_only: bool = False) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}


def commit_config(container: Mapping[str, Any], parent: Mapping[str, Any]) -> dict[str, Any]:
    """The ``Config`` to commit a container with, for an image like the container's own, ``parent``.

    The engine adds what is not given from the container's configuration. So what is the container's
    alone, labels and variables, can't be left out, only emptied.
    """
    kept = parent.get("Env") or []
    known = {variable.partition("=")[0] for variable in kept}
    own = {variable.partition("=")[0] for variable in container.get("Env") or ()} - known
    labels = dict.fromkeys(container.get("Labels") or {}, "")
    return {
        "Cmd": parent.get("Cmd") or [],
        "Entrypoint": parent.get("Entrypoint") or [],
        "User": parent.get("User") or "",
        "Env": [*kept, *(f"{variable}=" for variable in sorted(own))],
        "Labels": {**labels, **(parent.get("Labels") or {}), ROLE: "image"},
    }
