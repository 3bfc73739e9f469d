"""Options of an image or a launch that the process engine can't honour, each reported by name.

This module is pure: what is known of the machine is in `Host`. Options that a class relies on to be
correct (a mount, a blocked network) are refused; options that only limit it are ignored and
reported.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

from lifecycle_magic.engines.base import Honoured, Launch, VolumeMount
from lifecycle_magic.engines.process.sandbox import is_below, reserved
from lifecycle_magic.exception import EngineError
from lifecycle_magic.gpus.choice import lacking
from lifecycle_magic.gpus.device import Gpu
from lifecycle_magic.images.image import Image
from lifecycle_magic.images.package_steps import AptInstall
from lifecycle_magic.images.steps import AddLocalDir, AddLocalFile, DockerfileLine, Workdir

_DOCKER = "start Docker Engine"


@dataclass(frozen=True)
class Host:
    """The facts that decide.

    ``why_not`` is why there is no sandbox, ``fix`` how to get one. ``cores`` is a count, ``gpus``
    are the devices that containers may use, ``volumes`` is the folder of named volumes. ``unix``:
    containers connect over a Unix socket.
    """

    sandboxed: bool
    why_not: str
    cores: int
    gpus: tuple[Gpu, ...]
    volumes: str
    unix: bool = True
    fix: str = ""

    @property
    def sandbox_fix(self) -> str:
        """The command or setting that gives a plain host the sandbox that it lacks."""
        if not self.fix:
            return f"{_DOCKER} ({self.why_not})"
        return f"{self.fix} ({self.why_not}), or {_DOCKER}"


def refuse(found: Honoured) -> None:
    """Raise `EngineError` if an option can't be honoured and must not be ignored."""
    if found.refused:
        raise EngineError("; ".join(found.refused))


def of_image(image: Image, host: Host) -> Honoured:
    """Return what of ``image`` can't be honoured on ``host``."""
    refused = []
    ignored = []
    if image.python is None:
        refused.append(
            f"{repr(image).splitlines()[0]} needs a Docker engine: {_DOCKER}, or use "
            "Image.debian_slim()"
        )
    workdir = ""
    for step in image.plain_steps():
        if isinstance(step, AptInstall):
            names = " ".join(step.packages)
            refused.append(
                f"apt_install({names}) needs a Docker engine: {_DOCKER}, or install it on this "
                f"machine (apt-get install {names}) and omit the step"
            )
        elif isinstance(step, DockerfileLine):
            refused.append(f"{step.written()} needs a Docker engine: {_DOCKER}")
        elif isinstance(step, Workdir):
            workdir = step.path
            if not host.sandboxed:
                ignored.append(
                    f"workdir({workdir!r}) is a folder of each container's own without a sandbox; "
                    f"for the very path {host.sandbox_fix}"
                )
        elif isinstance(step, AddLocalFile | AddLocalDir):
            refused += _of_copy(step, workdir, host)
        mounts = [VolumeMount(path, volume) for path, volume in step.access.volumes]
        refused += [text for mount in mounts if (text := _of_mount(mount, host))]
    return Honoured(tuple(refused), tuple(ignored))


def _of_copy(step: AddLocalFile | AddLocalDir, workdir: str, host: Host) -> list[str]:
    if host.sandboxed:
        if reserved(step.remote.rstrip("/")):
            return [f"{step.written()}: {step.remote} is the machine's own here; add it elsewhere"]
        return []
    if workdir and is_below(step.remote, [workdir]):
        return []
    return [
        f"{step.written()} needs a sandbox for a path that is not below workdir: {host.sandbox_fix}"
    ]


def of_launch(launch: Launch, host: Host) -> Honoured:
    """Return what of ``launch`` can't be honoured on ``host``."""
    refused = [text for mount in launch.mounts if (text := _of_mount(mount, host))]
    ignored = []
    if launch.block_network and not host.sandboxed:
        refused.append(f"block_network=True needs a sandbox: {host.sandbox_fix}")
    elif launch.block_network and not host.unix:
        refused.append("block_network=True needs a Unix socket, and this engine uses TCP")
    if launch.keep and not host.unix:
        refused.append("keep needs a Unix socket, and this engine uses TCP")
    if launch.gpu and not host.gpus:
        refused.append(f"{launch.gpu[0]}: no GPU is on this machine. Fix: omit gpu=")
    elif launch.gpu and (missing := lacking(launch.gpu, host.gpus)):
        refused.append(missing)
    if launch.placement:
        ignored.append(
            f"placement={list(launch.placement)}: it chooses nodes of a swarm; engine='swarm' has "
            "some"
        )
    if launch.memory is not None:
        ignored.append(f"memory={launch.memory}: processes have no memory limit; for one {_DOCKER}")
    if launch.shm_size is not None and not host.sandboxed:
        ignored.append(
            f"shm_size={launch.shm_size}: without a sandbox /dev/shm is the machine's own"
        )
    if launch.cpu is not None and launch.cpu > host.cores:
        ignored.append(f"cpu={launch.cpu:g}: this machine has {host.cores} cores, so it gets those")
    elif launch.cpu is not None and launch.cpu != int(launch.cpu):
        cores = math.ceil(launch.cpu)
        ignored.append(f"cpu={launch.cpu:g}: a process gets whole cores, here {cores}")
    return Honoured(tuple(refused), tuple(ignored))


def _of_mount(mount: VolumeMount, host: Host) -> str | None:
    volume = mount.volume
    if host.sandboxed:
        if reserved(mount.path):
            return f"a volume at {mount.path} would hide the system's own: mount it elsewhere"
        return None
    if volume.is_read_only:
        return f"a volume at {mount.path} is read-only in a sandbox alone: {host.sandbox_fix}"
    if volume.kind == "ephemeral":
        own = None
    elif volume.kind == "named":
        own = f"{host.volumes}/{volume.name}"
    else:
        own = str(volume.path)
    if own == mount.path:
        return None
    at = f"mount it at its own path, {own}, or " if own else ""
    return f"a volume at {mount.path} needs a sandbox: {at}{host.sandbox_fix}"


def choose_cpus(cpu: float | None, name: str, available: list[int]) -> list[int]:
    """Return the cores an instance is pinned to, empty for all of them.

    The first core depends on ``name``, so that instances spread out.

        >>> choose_cpus(1.5, "a", [0, 1, 2, 3])
        [3, 0]
    """
    if cpu is None or math.ceil(cpu) >= len(available):
        return []
    first = zlib.crc32(name.encode()) % len(available)
    return [available[(first + n) % len(available)] for n in range(math.ceil(cpu))]
