"""The docker engine: any engine that speaks Docker's API, on this machine or another one.

Images are built with the classic build API and kept under tags made from their keys. A container
runs the guest as process 1 and dials home; when it has ended, this side removes it.

How it dials: where engine and kernel share a Linux, over a Unix socket in the run folder. Docker
Desktop's containers live in a virtual machine that no Unix socket reaches, and an engine on another
machine shares nothing: there a relay process dials for the container (`engines/relay`). Whether an
engine shares files is tried. No port is open anywhere.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lifecycle_magic.engines.base import (
    Ended,
    FoundContainer,
    Honoured,
    Kept,
    Launch,
    Listener,
    OnStep,
    Usage,
)
from lifecycle_magic.engines.cpu_meter import CpuMeter
from lifecycle_magic.engines.docker import commit as docker_commit
from lifecycle_magic.engines.docker import container_end, required_mounts, run_folder, usage
from lifecycle_magic.engines.docker import host_settings as docker_host_settings
from lifecycle_magic.engines.docker import kept as docker_kept
from lifecycle_magic.engines.docker import launch as docker_launch
from lifecycle_magic.engines.docker.address import OfEnvironment, of_environment
from lifecycle_magic.engines.docker.api import (
    create_container,
    discard_container,
    remove_container,
)
from lifecycle_magic.engines.docker.client import Clients
from lifecycle_magic.engines.docker.images import DockerImages
from lifecycle_magic.engines.docker.launch import RUN, Transport
from lifecycle_magic.engines.docker.local_process import local_process
from lifecycle_magic.engines.docker.names import ROLE
from lifecycle_magic.engines.docker.profile import EngineProfile
from lifecycle_magic.engines.docker.relayed import RelayedContainers
from lifecycle_magic.engines.docker.volumes import DockerVolumes
from lifecycle_magic.engines.listener import unix_socket
from lifecycle_magic.engines.relay.locations import FarLocation
from lifecycle_magic.gpus import inventory
from lifecycle_magic.gpus.device import Gpu
from lifecycle_magic.host import machine_memory
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.images.image import Image
from lifecycle_magic.images.steps import FileDigests
from lifecycle_magic.wire.host_settings import HostSettings

if TYPE_CHECKING:
    from docker import APIClient


class DockerEngine:
    """Containers of the Docker engine at ``location``, otherwise at ``DOCKER_HOST``, or at Docker's
    own socket.

    ``transport`` is found out; give it where an engine is taken for what it is not. What is younger
    than ``young`` seconds may be in use by a kernel whose state we do not see: `prune` leaves it.

    >>> DockerEngine().check()  # doctest: +SKIP
    'Docker 28.2.2 at unix:///var/run/docker.sock'
    """

    kind: Literal["docker", "process"] = "docker"

    def __init__(
        self,
        name: str = "docker",
        location: FarLocation | None = None,
        *,
        transport: Transport | None = None,
        young: float = 600.0,
    ) -> None:
        self.name = name
        self.young = young
        self._far = location
        self._clients = Clients(location or OfEnvironment())
        self._images = DockerImages(self._clients)
        self._profile = EngineProfile(self._clients, location, transport)
        self._cpu = CpuMeter()
        self._remover = container_end.Remover(self._clients)

    # --- what answers ----------------------------------------------------------------------

    @property
    def address(self) -> str:
        return self._clients.location.shown

    def check(self) -> str:
        """Return one line that describes the engine; raises `EngineUnavailable`."""
        facts = self._profile.refresh()
        product = "Podman" if facts.is_podman else "Docker"
        return f"{product} {facts.version} at {self.address}"

    def manages_several_nodes(self) -> bool:
        """Return whether the engine manages a swarm of more than one machine."""
        return self._profile.facts.managed_nodes > 1

    @property
    def cores(self) -> int:
        return self._profile.facts.cores

    @property
    def transport(self) -> Transport:
        """The transport of connections: a Unix socket in a shared folder, or a relay."""
        return self._profile.transport

    @functools.cached_property
    def _relayed(self) -> RelayedContainers:
        if self._far is None:
            self._far = FarLocation(of_environment())
        return RelayedContainers(self._clients, self._far)

    def review(self, image: Image, launch: Launch | None = None) -> Honoured:
        """Return what of this launch the engine can't honour; every image can be built."""
        if launch is None:
            return Honoured()
        gpus = self.gpus() if launch.gpu else ()
        profile = self._profile
        return docker_launch.review(
            launch,
            profile.facts_of_containers,
            profile.transport,
            self.address,
            gpus,
            sees_folders=profile.sees_folders(launch),
        )

    def close(self) -> None:
        """Finish removing what has ended and close idle connections. It can be used again.

        A relay goes on until its containers have ended.
        """
        self._remover.close()
        self._clients.close()
        if self._far is not None:
            self._far.close()
            if "_relayed" in self.__dict__:
                self._relayed.close()

    # --- images ----------------------------------------------------------------------------

    def base_id(self, image: Image, on_step: OnStep | None = None, *, anew: bool = False) -> str:
        """Return the id of the recipe's base, pulled or built if needed; raises `BuildError`."""
        return self._images.base_id(image, on_step, anew=anew)

    def known_base(self, image: Image) -> str | None:
        """Return the same id, or None if something would have to be pulled or built for it."""
        return self._images.known_base(image)

    def find(self, key: str) -> str | None:
        """Return the id of the image that was kept under ``key``, or None."""
        return self._images.find(key)

    def build(
        self,
        image: Image,
        key: str,
        on_step: OnStep,
        files: FileDigests | None = None,
        below: str | None = None,
    ) -> str:
        """Build the recipe, keep it under ``key``, return its id; raises `BuildError`.

        An exception in the calling thread, an interrupt too, ends the build and leaves no
        container.
        """
        shares = self.transport != "relay"
        return self._images.build(
            image,
            key,
            on_step,
            files,
            self._profile.facts_of_containers,
            below,
            shares_files=shares,
        )

    def commit(self, container: str, key: str) -> str:
        """Keep the files of a running container as an image under ``key``; return its id."""
        return docker_commit.commit(self._clients, container, key)

    def kept(self) -> list[Kept]:
        """Return every image and named volume of this package, with its size."""
        return docker_kept.kept(self._clients)

    def remove_volume(self, name: str) -> bool:
        """Remove a named volume and its content; return False if it is in use or does not exist."""
        return self.volumes.remove(name)

    @functools.cached_property
    def volumes(self) -> DockerVolumes:
        """The named volumes of the engine."""
        return DockerVolumes(self._clients, lambda: self._images.base_id(Image.debian_slim()))

    def prune(self, *, keep: frozenset[str]) -> list[str]:
        """Remove our images, but those whose key or id is in ``keep``, and dead containers.

        What is used by a container or is young stays, and so do volumes.
        """
        return docker_kept.prune(self._clients, keep=keep, young=self.young)

    # --- containers ------------------------------------------------------------------------

    def listen(self, run_dir: Path) -> Listener:
        """Open the socket that a container with this run folder will dial."""
        if self.transport == "unix":
            return Listener(unix_socket(run_dir / "sock"), f"unix:{RUN}/sock")
        return Listener(unix_socket(run_dir / "sock"), f"relay:{RUN}/sock")

    def run_path(self, run_dir: Path) -> str:
        """Return where the guest sees ``run_dir``."""
        return RUN

    def host_settings(
        self, launch: Launch, env: Mapping[str, str], *, hook: bool
    ) -> tuple[HostSettings | None, tuple[str, ...]]:
        """Return what the worker takes over from this machine, and what the card says of it."""
        user = self._images.user(launch.image)
        return docker_host_settings.of(launch, self._profile.facts, user, env, hook=hook)

    def launch(self, launch: Launch) -> str:
        """Start the guest and return the container's id."""
        import docker.errors

        with self._clients.use(f"start the container {launch.name}") as api:
            required_mounts.require_volumes(api, launch.mounts, self._profile.facts)
            required_mounts.require_folders(launch.mounts, self._profile.facts)
            try:
                if self.transport == "relay":
                    container = self._relayed.start(api, launch, self._profile.facts_of_containers)
                else:
                    container = self._start(api, launch)
            except docker.errors.APIError as error:
                if "bind source path does not exist" in str(error.explanation):
                    self._profile.forget_transport()
                if "host-gateway" not in str(error.explanation):
                    raise
                self._profile.forget_host_gateway()
                container = self._start(api, launch)
        self._cpu.begin(container, time.time())
        return container

    def _start(self, api: APIClient, launch: Launch) -> str:
        """Create the container and start it. Remove it again whatever goes wrong."""
        import docker.errors

        try:
            container = create_container(
                api, docker_launch.config(launch, self._profile.facts), launch.name
            )
        except docker.errors.APIError:
            raise
        except BaseException:
            discard_container(self._clients, launch.name)  # interrupted: it may have been made
            raise
        try:
            api.start(container)
        except BaseException:
            discard_container(self._clients, container)
            raise
        return container

    def memory(self) -> tuple[int | None, int | None]:
        """Return the bytes of memory of the engine's machine, and those that are free if it is this
        one.
        """
        if self.transport == "relay":
            return self._profile.facts.memory or None, None
        return machine_memory.of_this_machine()

    def gpus(self) -> tuple[Gpu, ...]:
        """Return the GPUs of this machine; nothing for an engine on another one."""
        if self.transport == "relay":
            return ()
        return inventory.visible(inventory.find(), os.environ)

    def process(self, container: str) -> Owner | None:
        """Return process 1 of a container, if this kernel sees the engine's processes."""
        import docker.errors

        if self.transport != "unix":
            return None
        with self._clients.use("find the process of a container") as api:
            try:
                pid = api.inspect_container(container)["State"]["Pid"]
            except docker.errors.NotFound:
                return None
        return local_process(pid, container)

    def kill(self, container: str) -> None:
        """Kill the container and remove it with its anonymous volumes; do nothing if it does not
        exist.
        """
        self._cpu.forget(container)
        remove_container(self._clients, container)

    def ended(self, container: str) -> Ended | None:
        """Return how a container ended; one that is just ending is waited for, up to 5 s."""
        self._cpu.forget(container)
        if self.transport == "relay":
            return self._relayed.ended(container)
        return container_end.ended(self._clients, container)

    def send_run_folder(self, container: str, run_dir: Path) -> None:
        """Give a running container the modules that were written since its launch."""
        if self.transport == "relay":
            self._relayed.send_run_folder(container, run_dir)

    def keep(self, container: str, is_kept: bool) -> None:
        """Let a container outlive this process, or not any more, where a relay leads to it."""
        if self.transport == "relay":
            self._relayed.keep(container, is_kept)

    def take_over(self, container: str, launch: Launch) -> None:
        """Become the process that a kept container belongs to; raises `EngineError`."""
        if self.transport == "relay":
            self._relayed.take_over(container, launch)

    def clear_run_folder(self, container: str, run_dir: Path) -> None:
        """Remove the folders that root made in the run folder of a container that has ended."""
        if names := run_folder.foreign_folders(run_dir):
            container_end.clear_run_folder(self._clients, container, names)

    def kept_report(self, container: str) -> bytes:
        """Return the report of an ended container that no kernel received, or nothing."""
        return run_folder.kept_report(self._clients, container)

    def leaves_behind(self, run_dir: Path) -> bool:
        """Return whether root made folders in the run folder."""
        return bool(run_folder.foreign_folders(run_dir))

    def discard(self, container: str) -> None:
        """Remove a container that has ended, or is just ending. Return at once."""
        self._cpu.forget(container)
        if self.transport == "relay":
            self._relayed.discard(container)
        else:
            self._remover.add(container)

    def usage(self, container: str) -> Usage | None:
        """Return the CPU use since the previous call, or the start, and memory without page
        cache.
        """
        return usage.measure(self._clients, self._cpu, container, self._profile.facts.memory)

    def place(self, container: str) -> str:
        """Return nothing: the engine is one machine."""
        return ""

    def containers(self) -> list[FoundContainer]:
        """Return every container of this package on this engine, of all sessions."""
        with self._clients.use("list its containers") as api:
            found = api.containers(all=True, filters={"label": f"{ROLE}=container"})
        return [
            FoundContainer(
                id=one["Id"],
                name=one["Names"][0].lstrip("/"),
                labels=one["Labels"],
                running=one["State"] == "running",
                ended=one["State"] in ("exited", "dead"),
            )
            for one in found
            if one["Names"]
        ]
