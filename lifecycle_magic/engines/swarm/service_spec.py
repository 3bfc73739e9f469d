"""A launch as a service of a swarm: pure functions from `Launch` and facts to JSON."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lifecycle_magic.engines.base import Launch, VolumeMount
from lifecycle_magic.engines.docker.launch import CAPABILITIES, GUEST, PIDS_LIMIT, RUN, in_memory
from lifecycle_magic.engines.docker.launch import mount as volume_mount
from lifecycle_magic.engines.docker.names import ROLE, volume_name
from lifecycle_magic.engines.swarm.guest_configs import STATE, ConfigPart, state_key
from lifecycle_magic.engines.swarm.nodes import GpuReservation
from lifecycle_magic.wire import packed_files, swarm_connection

__all__ = ["ServiceParts", "labels_of", "task_template"]

SECRET = "/run/secrets/lifecycle-magic"
_CONFIGS = "/run/lifecycle-guest"

_PRELUDE = """
import sys
sys.path.pop(0)
guest, run, secret, *parts = sys.argv[1:]
packed = b"".join(open(part, "rb").read() for part in parts)[32:]
try:
    stream = connect_to_kernel(secret, run)
    unpack(packed or read_from(stream, int(read_from(stream, 32), 16)), guest)
    unpack(read_from(stream, int(read_from(stream, 32), 16)), run)
except (OSError, EOFError) as error:
    sys.exit(f"lifecycle_magic: this container did not reach its kernel: {error}")
sys.path.insert(0, guest)
from lifecycle_magic.guest.attached_start import main
sys.argv[1:] = [run]
sys.exit(main(run, stream))
"""


@dataclass(frozen=True)
class ServiceParts:
    """The parts of a service beside its launch: the image's name in the registry, its secret,
    the objects with the guest, the GPUs that it reserves, and constraints of its volumes.
    """

    image: str
    secret: str
    guest: Sequence[ConfigPart]
    gpus: GpuReservation | None = None
    constraints: Sequence[str] = ()


def labels_of(launch: Launch) -> dict[str, str]:
    """Return the labels of a service and of its secret."""
    return {**launch.labels, ROLE: "container", STATE: state_key()}


def task_template(launch: Launch, parts: ServiceParts) -> dict[str, Any]:
    """Return the ``TaskTemplate`` of ``POST /services/create``: one container, never again."""
    return {
        "ContainerSpec": _container(launch, parts),
        "Resources": _resources(launch, parts.gpus),
        "RestartPolicy": {"Condition": "none"},
        "Placement": {"Constraints": [*launch.placement, *parts.constraints]},
        # What the guest prints before it has its own log, for the error of a start that failed.
        "LogDriver": {"Name": "json-file", "Options": {"max-size": "64k", "max-file": "1"}},
    }


def _container(launch: Launch, parts: ServiceParts) -> dict[str, Any]:
    paths = [f"{_CONFIGS}-{number}" for number in range(len(parts.guest))]
    mounts = [in_memory(GUEST, 0o755), in_memory(RUN, 0o700), *map(_mount, launch.mounts)]
    if launch.shm_size is not None:
        shared = in_memory("/dev/shm", 0o1777)
        shared["TmpfsOptions"]["SizeBytes"] = launch.shm_size << 20
        mounts.append(shared)
    return {
        "Image": parts.image,
        "Labels": labels_of(launch),
        "Command": ["python3", "-c", _program(), GUEST, RUN, SECRET, *paths],
        "User": "0:0",
        "StopSignal": "SIGTERM",
        "StopGracePeriod": launch.stop_timeout * 10**9,
        # The kernel watches a connection; an image's own health check would only cost.
        "HealthCheck": {"Test": ["NONE"]},
        "Init": False,
        "CapabilityDrop": ["ALL"],
        "CapabilityAdd": [f"CAP_{one}" for one in CAPABILITIES],
        "Privileges": {"NoNewPrivileges": True},  # Docker 25; older ones ignore it
        "Mounts": mounts,
        "Secrets": [
            {
                "SecretID": parts.secret,
                "SecretName": launch.name,
                "File": {"Name": "lifecycle-magic", "UID": "0", "GID": "0", "Mode": 0o400},
            }
        ],
        "Configs": [
            {
                "ConfigID": part.id,
                "ConfigName": part.name,
                "File": {"Name": path, "UID": "0", "GID": "0", "Mode": 0o444},
            }
            for part, path in zip(parts.guest, paths, strict=True)
        ],
    }


def _program() -> str:
    """Return what a container runs that has nothing but its secret and the guest's objects."""
    future = "from __future__ import annotations\n"
    modules = inspect.getsource(packed_files) + inspect.getsource(swarm_connection).replace(
        future, ""
    )
    return modules + _PRELUDE


def _mount(mount: VolumeMount) -> dict[str, Any]:
    made = volume_mount(mount)
    if mount.volume.kind == "named":
        made["Source"] = volume_name(mount)
    return made


def _resources(launch: Launch, gpus: GpuReservation | None) -> dict[str, Any]:
    reserved: dict[str, Any] = {}
    limits: dict[str, Any] = {"Pids": PIDS_LIMIT}
    if launch.cpu is not None:
        reserved["NanoCPUs"] = limits["NanoCPUs"] = int(launch.cpu * 1e9)
    if launch.memory is not None:
        reserved["MemoryBytes"] = limits["MemoryBytes"] = launch.memory << 20
    if gpus is not None:
        reserved["GenericResources"] = [
            {"DiscreteResourceSpec": {"Kind": gpus.kind, "Value": gpus.number}}
        ]
    return {"Limits": limits, "Reservations": reserved}
