"""The docker engine: any engine that speaks Docker's API, on this machine.

Images are built with the classic build API and kept under tags made from their keys. A container
runs the guest as process 1, dials home, and removes itself when it ends.

How it dials: where engine and kernel share a Linux, over a Unix socket in the run folder, so no
port is open anywhere. Docker Desktop's containers live in a virtual machine that no Unix socket
reaches: there it is TCP on the loopback address, which they see as ``host.docker.internal``.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lifecycle_magic.engines import docker_commit, docker_facts, docker_kept, docker_launch
from lifecycle_magic.engines.base import (
    Ended,
    Found,
    Honoured,
    Kept,
    Launch,
    Listener,
    OnStep,
    Usage,
)
from lifecycle_magic.engines.docker_api import (
    create_container,
    discard_container,
    epoch,
    remove_container,
)
from lifecycle_magic.engines.docker_client import Clients, docker_host
from lifecycle_magic.engines.docker_facts import Facts
from lifecycle_magic.engines.docker_images import Images
from lifecycle_magic.engines.docker_launch import RUN
from lifecycle_magic.engines.docker_names import ROLE, volume_name
from lifecycle_magic.engines.listening import unix_socket
from lifecycle_magic.engines.meter import CpuMeter
from lifecycle_magic.exception import EngineError
from lifecycle_magic.image import Image
from lifecycle_magic.recipes.recipe import FileDigests

if TYPE_CHECKING:
    from docker import APIClient

_LAST_EVENTS = 5  # seconds to wait for the engine's word on how a container ended


class DockerEngine:
    """Containers of the Docker engine at ``DOCKER_HOST``, or at Docker's own socket.

    ``transport`` is found out; give it where an engine is taken for what it is not. What is younger
    than ``young`` seconds may be in use by a kernel whose state we do not see: `prune` leaves it.

    >>> DockerEngine().check()  # doctest: +SKIP
    'Docker 28.2.2 at unix:///var/run/docker.sock'
    """

    name: Literal["docker", "process"] = "docker"

    def __init__(
        self, *, transport: Literal["unix", "tcp"] | None = None, young: float = 600.0
    ) -> None:
        self.young = young
        self._asked = transport
        self._clients = Clients()
        self._images = Images(self._clients)
        self._known: Facts | None = None
        self._cpu = CpuMeter()

    # --- what answers ----------------------------------------------------------------------

    @property
    def address(self) -> str:
        return docker_host()

    def check(self) -> str:
        """One line that says what answers; raises `EngineUnavailable`."""
        self._known = docker_facts.read(self._clients)
        return f"Docker {self._known.version} at {docker_host()}"

    @property
    def _facts(self) -> Facts:
        if self._known is None:
            self._known = docker_facts.read(self._clients)
        return self._known

    @functools.cached_property
    def _transport(self) -> Literal["unix", "tcp"]:
        if self._asked is not None:
            return self._asked
        return "tcp" if self._facts.desktop or sys.platform != "linux" else "unix"

    def review(self, image: Image, launch: Launch | None = None) -> Honoured:
        """What of this launch the engine can't honour; every image can be built."""
        if launch is None:
            return Honoured()
        return docker_launch.review(launch, self._facts, unix=self._transport == "unix")

    def close(self) -> None:
        """Close the idle connections. The engine can be used again."""
        self._clients.close()

    # --- images ----------------------------------------------------------------------------

    def base_id(self, image: Image, on_step: OnStep | None = None, *, anew: bool = False) -> str:
        """The id of the recipe's base, pulled or built if need be; raises `BuildError`."""
        return self._images.base_id(image, on_step, anew=anew)

    def known_base(self, image: Image) -> str | None:
        """The same, or None if something would have to be pulled or built for it."""
        return self._images.known_base(image)

    def find(self, key: str) -> str | None:
        """The id of the image that was kept under ``key``, or None."""
        return self._images.find(key)

    def build(
        self, image: Image, key: str, on_step: OnStep, files: FileDigests | None = None
    ) -> str:
        """Build the recipe, keep it under ``key``, return its id; raises `BuildError`.

        An exception in the calling thread, an interrupt too, ends the build and leaves no
        container.
        """
        return self._images.build(image, key, on_step, files, self._facts)

    def commit(self, container: str, key: str) -> str:
        """Keep the files of a running container as an image under ``key``; return its id."""
        return docker_commit.commit(self._clients, container, key)

    def kept(self) -> list[Kept]:
        """Every image and named volume of ours, with its size."""
        return docker_kept.kept(self._clients)

    def remove_volume(self, name: str) -> bool:
        """Remove a named volume and what is in it; False if a container has it, or it is gone."""
        return docker_kept.remove_volume(self._clients, name)

    def prune(self, *, keep: frozenset[str]) -> list[str]:
        """Remove our images, but those whose key or id is in ``keep``, and dead containers.

        What is used by a container or is young stays, and so do volumes.
        """
        return docker_kept.prune(self._clients, keep=keep, young=self.young)

    # --- containers ------------------------------------------------------------------------

    def listen(self, run_dir: Path) -> Listener:
        """Open the socket that a container with this run folder will dial."""
        if self._transport == "unix":
            return Listener(unix_socket(run_dir / "sock"), f"unix:{RUN}/sock")
        bind, seen = self._tcp_addresses
        try:
            sock = socket.create_server((bind, 0))
        except OSError as error:
            raise EngineError(
                f"can't listen on {bind}, where the engine's containers would reach this "
                f"kernel: {error}"
            ) from error
        return Listener(sock, f"tcp:{seen}:{sock.getsockname()[1]}")

    @functools.cached_property
    def _tcp_addresses(self) -> tuple[str, str]:
        """Where to listen, and what containers call it: nothing that another machine can reach."""
        if self._facts.desktop or sys.platform != "linux":
            return "127.0.0.1", "host.docker.internal"
        with self._clients.use("describe its bridge network") as api:
            pools = api.inspect_network("bridge")["IPAM"]["Config"] or []
        for pool in pools:
            gateway = pool.get("Gateway")
            if gateway is None and pool.get("Subnet"):
                # A daemon that has just made its bridge does not tell; it takes the first address.
                gateway = str(next(ipaddress.ip_network(pool["Subnet"]).hosts()))
            if gateway:
                return gateway, gateway
        raise EngineError("the engine's bridge network has no gateway address to listen on")

    def run_path(self, run_dir: Path) -> str:
        """Where the guest sees ``run_dir``."""
        return RUN

    def launch(self, launch: Launch) -> str:
        """Start the guest and return the container's id; it removes itself when it ends."""
        import docker.errors

        body = docker_launch.config(launch, self._facts)
        with self._clients.use(f"start the container {launch.name}") as api:
            self._require_volumes(api, launch)
            try:
                container = create_container(api, body, launch.name)
            except docker.errors.APIError:
                raise
            except BaseException:
                # Interrupted: it may have been made, and what never ran does not remove itself.
                discard_container(self._clients, launch.name)
                raise
            try:
                api.start(container)
            except BaseException:
                discard_container(self._clients, container)
                raise
        self._cpu.begin(container, time.time())
        return container

    def _require_volumes(self, api: APIClient, launch: Launch) -> None:
        import docker.errors

        for mount in launch.mounts:
            if mount.volume.kind == "named" and not mount.volume.create_if_missing:
                try:
                    api.inspect_volume(volume_name(mount))
                except docker.errors.NotFound:
                    raise EngineError(
                        f"the volume {mount.volume.name!r} for {mount.path} is not there, and "
                        "create_if_missing is False: check its name, or have it created"
                    ) from None

    def kill(self, container: str) -> None:
        """End it now and remove it with its anonymous volumes; fine if it is gone."""
        self._cpu.forget(container)
        remove_container(self._clients, container)

    def ended(self, container: str) -> Ended | None:
        """How it ended, from the engine's memory of its last 256 events.

        A container that is just ending is waited for, up to 5 s.
        """
        import docker.errors

        self._cpu.forget(container)
        code: int | None = None
        oom = over = False
        with self._clients.use("tell how a container ended") as api:
            try:
                api.inspect_container(container)
                patience = _LAST_EVENTS
            except docker.errors.NotFound:
                patience = 1  # all has been said; the engine counts whole seconds
            for event in api.events(
                since=1,
                until=int(time.time()) + patience,
                filters={"container": container, "event": ["oom", "die", "destroy"]},
                decode=True,
            ):
                action = event.get("Action")
                if action == "oom":
                    oom = True
                elif action == "die":
                    over = True
                    code = int(event["Actor"]["Attributes"]["exitCode"])
                elif action == "destroy":
                    over = True
                    break
        return Ended(code, oom) if over else None

    def usage(self, container: str) -> Usage | None:
        """CPU since the last look (at first: since its start) and memory without page cache."""
        import docker.errors

        with self._clients.use("tell what a container uses") as api:
            try:
                stats = api.stats(container, stream=False, one_shot=True)
                if not self._cpu.knows(container):
                    started = api.inspect_container(container)["State"]["StartedAt"]
                    self._cpu.begin(container, epoch(started))
            except docker.errors.NotFound:
                return None
        memory = stats.get("memory_stats") or {}
        if "usage" not in memory:
            return None  # it is there, and has ended
        used = stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
        # Page cache that can be dropped at once is nobody's memory: named so in version 1 and 2 of
        # control groups.
        detail = memory.get("stats") or {}
        cache = detail.get("total_inactive_file", detail.get("inactive_file", 0))
        limit = memory.get("limit", 0)
        return Usage(
            cpu=self._cpu.cores(container, time.time(), used),
            memory=max(0, memory["usage"] - cache),
            memory_limit=limit if 0 < limit < self._facts.memory else None,
        )

    def containers(self) -> list[Found]:
        """Every container of ours that this engine has, of all sessions."""
        with self._clients.use("list its containers") as api:
            found = api.containers(all=True, filters={"label": f"{ROLE}=container"})
        return [
            Found(one["Id"], one["Names"][0].lstrip("/"), one["Labels"], one["State"] == "running")
            for one in found
            if one["Names"]
        ]
