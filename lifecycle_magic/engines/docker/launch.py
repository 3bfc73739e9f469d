"""A launch in the form of the engine's API: pure functions from `Launch` and facts to JSON.

The container is hardened in ways that package installs and ordinary user code do not notice; each
choice has its reason next to it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Literal

from lifecycle_magic.engines.base import Honoured, Launch, VolumeMount
from lifecycle_magic.engines.docker.facts import Facts
from lifecycle_magic.engines.docker.host_settings import owns_files
from lifecycle_magic.engines.docker.names import ROLE, volume_name
from lifecycle_magic.gpus.choice import lacking
from lifecycle_magic.gpus.device import Gpu
from lifecycle_magic.gpus.inventory import control_nodes
from lifecycle_magic.gpus.request import GpuRequest
from lifecycle_magic.wire import packed_files
from lifecycle_magic.wire.host_settings import HOST

GUEST = "/opt/lifecycle_magic"
RUN = "/run/lifecycle"

# Code in a container is root there, for apt and pip, but with no more than they and daemons that
# drop their own rights use. CHOWN, DAC_OVERRIDE, FOWNER, FSETID: unpacking files as other users'.
# SETUID, SETGID: apt's sandbox, su. KILL: ending what has dropped to another user. Left out of
# Docker's own set are raw sockets, device nodes, chroot, audit, file capabilities; privileged ports
# need none since Docker 20.10.
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID")

# To let a worker that is the kernel's user keep root's right to write (guest.account); the worker
# itself does not have it.
OWNER_CAPABILITIES = ("SETPCAP",)

# A fork bomb ends here; the largest thread pools do not come near.
PIDS_LIMIT = 4096

# What the guest prints before it keeps its own log would go with the container, so it is put into
# the run folder. The first entry of the path is the working folder, whose files must not pass for
# modules of the standard library.
_PRELUDE = """\
import os, sys
sys.path.pop(0)
del sys.argv[0]
flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
log = os.open(sys.argv[1] + "/start.log", flags, 0o644)
os.dup2(log, 1)
os.dup2(log, 2)
os.close(log)
sys.path.insert(0, sys.argv[0])
exec(open(sys.argv[0] + "/__main__.py").read())
"""


# Podman fills a volume from the image in spite of NoCopy, unless it has a name.
_EMPTYING = """
import sys
first = sys.path.pop(0)
import os, shutil
sys.path.insert(0, first)
for place in {places!r}:
    for entry in os.scandir(place):
        remove = shutil.rmtree if entry.is_dir(follow_symlinks=False) else os.unlink
        remove(entry.path)
"""

# What a container runs that shares no files: first the guest arrives on standard input, then what
# is in its run folder. `packed_files` is in front of it.
_ATTACHED_PRELUDE = """
import sys
sys.path.pop(0)
for folder in sys.argv[1:]:
    unpack(read_exactly(0, int(read_exactly(0, 32), 16)), folder)
sys.path.insert(0, sys.argv[1])
from lifecycle_magic.guest.attached_start import main
del sys.argv[1]
sys.exit(main(sys.argv[1]))
"""

Transport = Literal["unix", "relay"]
"""How a container reaches the kernel: over a Unix socket, or by way of a relay."""


def review(
    launch: Launch,
    facts: Facts,
    transport: Transport,
    address: str = "this address",
    gpus: Sequence[Gpu] = (),
    *,
    sees_folders: bool = True,
) -> Honoured:
    """Return what of ``launch`` the engine at ``address`` can't honour.

    ``gpus`` are those of its machine, empty if they are unknown. One with a relay may still see
    this machine's folders, as Docker Desktop does.
    """
    refused, ignored = [], []
    if not sees_folders:
        refused += [
            f"the volume at {one.path} is the folder {one.volume.path} of this machine, and the "
            f"engine at {address} does not see this machine's files: put the files into the image "
            "(Image.add_local_dir), or use a named volume (Volume.from_name) and fill it with "
            "batch_upload()"
            for one in launch.mounts
            if one.volume.kind == "path"
        ]
    if launch.placement:
        ignored.append(
            f"placement={list(launch.placement)}: it chooses nodes of a swarm, and {address} is "
            "one machine. engine='swarm' uses it"
        )
    if launch.cpu is not None and launch.cpu > facts.cores:
        ignored.append(f"cpu={launch.cpu:g}: the engine has {facts.cores} cores; capped at that")
    if launch.cpu is not None and not facts.limits_cpu:
        ignored.append(f"cpu={launch.cpu:g}: the engine's kernel can't limit CPU time")
    if launch.memory is not None and not facts.limits_memory:
        ignored.append(f"memory={launch.memory}: the engine's kernel can't limit memory")
    elif launch.memory is not None and facts.memory and launch.memory << 20 > facts.memory:
        ignored.append(f"memory={launch.memory}: the engine has only {facts.memory >> 20} MiB")
    if launch.gpu and gpus:
        if missing := lacking(launch.gpu, gpus):
            refused.append(missing)
    elif launch.gpu:
        ignored += _unknown_gpus(launch.gpu[0], transport, address)
    if not facts.host_gateway and not launch.block_network and transport != "relay":
        ignored.append(
            f"the name {HOST} for this machine needs Docker 20.10 or newer with a bridge network: "
            "use the machine's own address in code that calls a service on it"
        )
    return Honoured(tuple(refused), tuple(ignored))


def config(launch: Launch, facts: Facts) -> dict[str, Any]:
    """Return the body of ``POST /containers/create`` for ``launch``."""
    mounts = [_bind(str(launch.guest_dir), GUEST, read_only=True), _bind(str(launch.run_dir), RUN)]
    code = _emptying(launch, facts) + _PRELUDE
    return _config(launch, facts, ["python3", "-c", code, GUEST, RUN], mounts)


def attached_config(launch: Launch, facts: Facts) -> dict[str, Any]:
    """Return the body for a container that gets everything through its standard input.

    Its files are in memory, so that no commit has them.
    """
    # The source comes first: it begins with an import from __future__.
    code = inspect.getsource(packed_files) + _emptying(launch, facts) + _ATTACHED_PRELUDE
    body = _config(
        launch,
        facts,
        ["python3", "-c", code, GUEST, RUN],
        [in_memory(GUEST, 0o755), in_memory(RUN, 0o700)],
    )
    # The end of this one attachment is the end of standard input: so it learns that the relay is
    # gone.
    return {**body, "OpenStdin": True, "StdinOnce": True, "Tty": False}


def _config(
    launch: Launch, facts: Facts, command: list[str], mounts: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "Image": launch.image,
        "Entrypoint": command,
        "Cmd": [],
        "User": "0:0",
        "Labels": {**launch.labels, ROLE: "container"},
        "StopSignal": "SIGTERM",
        "StopTimeout": launch.stop_timeout,
        # The kernel watches a connection; an image's own health check would only cost.
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": _host_config(launch, facts, mounts),
    }


def _host_config(launch: Launch, facts: Facts, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    host: dict[str, Any] = {
        # See docker_ends: with AutoRemove an engine's restart can cost a container its exit.
        "AutoRemove": False,
        "CapDrop": ["ALL"],
        "CapAdd": [*CAPABILITIES, *(OWNER_CAPABILITIES if owns_files(launch, facts) else ())],
        "SecurityOpt": ["no-new-privileges"],
        # The guest is process 1 and reaps.
        "Init": False,
        # Output is in the run folder, capped; the engine need not keep it a second time.
        "LogConfig": {"Type": "none", "Config": {}},
        **mounted([*mounts, *(mount(one) for one in launch.mounts)], facts),
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
    elif facts.host_gateway:
        host["ExtraHosts"] = [f"{HOST}:host-gateway"]
    if launch.gpu:
        host.update(_gpu_settings(launch))
    return host


def _gpu_settings(launch: Launch) -> dict[str, Any]:
    """Return how the container gets its GPUs: the leased ones, or those that the engine chooses."""
    nvidia = [gpu.id for gpu in launch.gpus if gpu.vendor == "nvidia"]
    amd = [node for gpu in launch.gpus if gpu.vendor == "amd" for node in gpu.nodes]
    settings: dict[str, Any] = {}
    if amd:
        nodes = [*control_nodes(launch.gpus), *amd]
        settings["Devices"] = [
            {"PathOnHost": node, "PathInContainer": node, "CgroupPermissions": "rwm"}
            for node in nodes
        ]
    first = launch.gpu[0]
    ids = nvidia or ([] if amd else list(first.ids))
    request: dict[str, Any] = {"Driver": "", "Capabilities": [["gpu"]]}
    if ids:
        settings["DeviceRequests"] = [{**request, "DeviceIDs": ids}]
    elif not amd:
        count = -1 if first.count is None else first.count
        settings["DeviceRequests"] = [{**request, "Count": count}]
    return settings


def _unknown_gpus(request: GpuRequest, transport: Transport, address: str) -> list[str]:
    """Return what is said of GPUs that only the engine knows."""
    if request.model:
        return [f"{request}: the engine can't choose by model; it gives what is there"]
    if transport == "relay" and request.count is not None and not request.ids:
        return [
            f"{request}: which GPUs the engine at {address} has is not known here, so each "
            'container gets the first ones. For others name them: gpu="device=1"'
        ]
    return []


def _emptying(launch: Launch, facts: Facts) -> str:
    """Return code that empties the volumes in which an engine leaves files of the image."""
    places = [one.path for one in launch.mounts if one.volume.kind == "ephemeral"]
    return _EMPTYING.format(places=places) if facts.is_podman and places else ""


def mounted(mounts: Sequence[dict[str, Any]], facts: Facts) -> dict[str, Any]:
    """Return the entries of a ``HostConfig`` for mounts in the form of the engine's API.

    Podman ignores ``NoCopy`` of a named volume there, and knows it in the older form.
    """
    if not facts.is_podman:
        return {"Mounts": list(mounts)}
    named = [one for one in mounts if one["Type"] == "volume" and "Source" in one]
    binds = [
        f"{one['Source']}:{one['Target']}:{'ro,' if one.get('ReadOnly') else ''}nocopy"
        for one in named
    ]
    return {"Mounts": [one for one in mounts if one not in named], "Binds": binds}


def mount(mount: VolumeMount) -> dict[str, Any]:
    """Return a volume's mount in the form of the engine's API."""
    volume = mount.volume
    if volume.kind == "path":
        return _bind(str(volume.path), mount.path, read_only=volume.is_read_only)
    # What the image has at that path stays hidden, as it does with a folder of the host.
    options: dict[str, Any] = {"NoCopy": True, "Labels": {ROLE: "volume"}}
    made: dict[str, Any] = {"Type": "volume", "Target": mount.path, "VolumeOptions": options}
    if volume.kind == "named":
        made["Source"] = volume_name(mount)
    if volume.is_read_only:
        made["ReadOnly"] = True
    return made


def in_memory(target: str, mode: int) -> dict[str, Any]:
    """Return the mount of a folder in memory."""
    return {"Type": "tmpfs", "Target": target, "TmpfsOptions": {"Mode": mode}}


def _bind(source: str, target: str, *, read_only: bool = False) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
