"""The swarm engine: images on a manager's engine, and a service for each container.

An engine's attach does not reach the containers of other nodes. So a container connects to the
kernel's relay process by TLS, with a certificate of the session's own authority and a token that is
good once (`engines/relay/container_port.py`). Then everything is as on another machine: a
multiplexer at both ends, and a lease.

A service has one container, because a service of several is scaled down by removing any of them.
Swarm does not start it again: the kernel decides that.
"""

from __future__ import annotations

import contextlib
import functools
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle_magic.engines.base import Ended, FoundContainer, Honoured, Launch, Usage
from lifecycle_magic.engines.docker.client import message_of
from lifecycle_magic.engines.docker.engine import DockerEngine
from lifecycle_magic.engines.relay.locations import FarLocation
from lifecycle_magic.engines.relay.process import PortSettings, RelayProcess, packed_guest
from lifecycle_magic.engines.swarm import registry_service, services
from lifecycle_magic.engines.swarm.certificates import Authority
from lifecycle_magic.engines.swarm.guest_configs import GuestConfigs
from lifecycle_magic.engines.swarm.kernel_address import kernel_address
from lifecycle_magic.engines.swarm.nodes import Node, gpu_reservation
from lifecycle_magic.engines.swarm.registry import Registry
from lifecycle_magic.engines.swarm.review import reservations, review_launch, volume_constraints
from lifecycle_magic.engines.swarm.service_spec import ServiceParts, labels_of, task_template
from lifecycle_magic.exception import EngineError
from lifecycle_magic.threads.sigint import deferred
from lifecycle_magic.wire.multiplexer import STREAM_ENDED
from lifecycle_magic.wire.swarm_connection import KERNEL_NAME

if TYPE_CHECKING:
    from lifecycle_magic.images.image import Image

__all__ = ["SwarmEngine"]

LISTED_SECONDS = 0.5
"""Seconds for which a list of the containers is given again."""

LAST_SECONDS = 5.0
"""Seconds to wait for a task that is just ending."""


class SwarmEngine(DockerEngine):
    """Containers on the nodes of a swarm whose manager's engine is at ``location``.

    A service's name is the id of its container. Build hooks run on the manager, whose engine
    builds, pushes and has the volumes.
    """

    def __init__(self, name: str, location: FarLocation) -> None:
        super().__init__(name, location, transport="relay")
        self._location = location
        self._registry = Registry(self._clients)
        self._configs = GuestConfigs(self._clients)
        self._started: dict[str, tuple[RelayProcess, Launch]] = {}
        self._listed: tuple[float, list[FoundContainer]] = (
            0.0,
            [],
        )  # with the time of the question
        self._created = 0.0  # the time of the last service
        self._places: dict[str, str] = {}  # of containers that run
        self._nodes_known: tuple[float, list[Node]] = (0.0, [])

    @functools.cached_property
    def _authority(self) -> Authority:
        return Authority()

    # --- what answers ----------------------------------------------------------------------

    def check(self) -> str:
        """Return one line that describes the swarm; raises `EngineUnavailable`."""
        super().check()
        _ = self._authority
        services.require_manager(self._swarm(), self.address)
        nodes = self.nodes(anew=True)
        ready = sum(node.ready for node in nodes)
        counted = (
            f"{ready} nodes" if ready == len(nodes) else f"{ready} of {len(nodes)} nodes ready"
        )
        return f"Docker Swarm {self._profile.facts.version} at {self.address}, {counted}"

    def _swarm(self) -> dict[str, Any]:
        with self._clients.use("describe its swarm") as api:
            return dict(api.info().get("Swarm") or {})

    def nodes(self, *, anew: bool = False) -> list[Node]:
        """Return the nodes, as they were some seconds ago unless ``anew``."""
        at, known = self._nodes_known
        if anew or time.monotonic() - at > services.NODES_SECONDS or not known:
            with self._clients.use("list the nodes of its swarm") as api:
                known = sorted(map(Node.of, api.nodes()), key=lambda node: node.name)
            self._nodes_known = time.monotonic(), known
        return known

    def lost_after(self) -> float:
        """Return the seconds without a heartbeat after which swarm takes a node for lost."""
        with self._clients.use("describe its swarm") as api:
            spec = api.inspect_swarm()["Spec"]
        return 3 * float((spec.get("Dispatcher") or {}).get("HeartbeatPeriod") or 5e9) / 1e9

    @property
    def cores(self) -> int:
        """Return the number of processors of the largest node."""
        return max((node.cores for node in self.nodes()), default=1)

    def review(self, image: Image, launch: Launch | None = None) -> Honoured:
        """Return what of this launch the swarm can't honour; every image can be built."""
        if launch is None:
            return Honoured()
        if launch.hook:
            return super().review(image, launch)
        return review_launch(launch, self.nodes(), self.address, self._node_id)

    @functools.cached_property
    def _node_id(self) -> str:
        return str(self._swarm().get("NodeID") or "")

    # --- containers ------------------------------------------------------------------------

    def launch(self, launch: Launch) -> str:
        """Create the service of one container, and return its name."""
        if launch.hook:
            return super().launch(launch)
        name = launch.name
        image = self._registry.reference(launch.image, len(self.nodes()))
        guest = packed_guest(launch.guest_dir)
        relay = self._location.relay()
        self._started[name] = relay, launch
        try:
            with self._clients.use(f"start the service {name}") as api:
                self._create(api, relay, launch, guest, image)
        except BaseException:
            self._started.pop(name, None)
            relay.kill(name)  # what was made of it, interrupts included
            raise
        self._created = time.monotonic()
        return name

    def _create(
        self, api: Any, relay: RelayProcess, launch: Launch, guest: Path, image: str
    ) -> None:
        import docker.errors

        configs = self._configs.ensure(api, guest)
        secret = self._invite(api, relay, launch, guest if not configs else None)
        nodes = self.nodes()
        parts = ServiceParts(
            image=image,
            secret=secret,
            guest=configs,
            gpus=gpu_reservation(launch.gpu, nodes),
            constraints=volume_constraints(launch, nodes, self._node_id),
        )
        labels = labels_of(launch)
        for last in (False, True):
            try:
                with deferred():  # an interrupt meanwhile would leave a service that nobody knows
                    api.create_service(task_template(launch, parts), launch.name, labels)
                return
            except docker.errors.APIError as error:
                if last or "config" not in message_of(error).lower():
                    raise
                self._configs.forget()  # another session has just removed them
                parts = ServiceParts(**{**vars(parts), "guest": self._configs.ensure(api, guest)})

    def _invite(self, api: Any, relay: RelayProcess, launch: Launch, guest: Path | None) -> str:
        """Have the relay expect a container; return the id of the secret by which it connects."""
        here = kernel_address(self._location.url, str(self._swarm().get("NodeAddr") or ""))
        authority, identity = launch.run_dir / "authority.pem", launch.run_dir / "kernel.pem"
        authority.write_text(self._authority.pem)
        identity.touch(0o600)
        identity.write_text(self._authority.identity(KERNEL_NAME, serves=True))
        token = secrets.token_hex(32)
        settings = PortSettings(here.listen, here.port, str(authority), str(identity))
        port = relay.expect(
            launch.name, launch.run_dir, guest, launch.stop_timeout, token, settings
        )
        content = services.secret_content(
            self._authority, launch.name, here.host, here.port or port, token
        )
        with deferred():
            made = api.create_secret(launch.name, content, labels_of(launch))
        return str(made["ID"])

    def send_run_folder(self, container: str, run_dir: Path) -> None:
        """Give a running container the modules that were written since its launch."""
        self._location.relay().put(container, run_dir)

    def containers(self) -> list[FoundContainer]:
        """Return the containers of this package in the swarm, and those of hooks on the manager.

        Many containers that start at once ask, each every second.
        """
        began, known = self._listed
        if began > self._created and time.monotonic() - began < LISTED_SECONDS:
            return known
        began = time.monotonic()
        names = {node.id: node.name for node in self.nodes()}
        with self._clients.use("list its services") as api:
            found = services.list_services(api, names)
        # A service's container on the manager is one of its engine's too.
        there = [one for one in super().containers() if services.TASK not in one.labels]
        self._listed = began, [*found, *there]
        return self._listed[1]

    def place(self, container: str) -> str:
        """Return the node that a container runs on, with its reservations."""
        started = self._started.get(container)
        if started is None:
            return ""
        if container not in self._places:
            found = self._task_of(container)
            if found is None or found.state != "running":
                return ""
            self._places[container] = f"{found.node}{reservations(started[1])}"
        return self._places[container]

    def ended(self, container: str) -> Ended | None:
        """Return how a container ended. Raises `EngineError` if only the connection to it did."""
        if container not in self._started:
            return super().ended(container)
        relay, launch = self._started[container]
        lost = relay.fate(container) if relay.is_alive else relay.ending
        found = self._task_of(container)
        deadline = time.monotonic() + LAST_SECONDS
        while found is not None and not found.ended and lost in ("", STREAM_ENDED):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
            found = self._task_of(container)
        if found is not None and found.ended:
            self._keep_output(container, launch.run_dir)
            return Ended(found.exit_code)
        if found is None and lost in ("", STREAM_ENDED):
            return None
        where = f" on {found.node}" if found is not None and found.node else ""
        raise EngineError(
            f"the connection to its container{where} was lost{f' ({lost})' if lost else ''}. The "
            "container runs its exit by itself if its node lives, and how it ends is not known here"
        )

    def _task_of(self, container: str) -> services.Task | None:
        names = {node.id: node.name for node in self.nodes()}
        with self._clients.use("find out how a service ended") as api:
            return services.last_task(api, container, names)

    def _keep_output(self, container: str, run_dir: Path) -> None:
        """Keep what a container printed before it had a log, as others do by themselves."""
        with contextlib.suppress(EngineError, OSError), self._clients.use("read a log") as api:
            if text := services.output(api, container):
                (run_dir / "start.log").write_bytes(text)

    def kill(self, container: str) -> None:
        """Kill the container's processes, and remove its service."""
        self._places.pop(container, None)
        started = self._started.pop(container, None)
        if started is not None and started[0].is_alive:
            started[0].kill(container)
        elif services.is_name(container):
            with self._clients.use(f"remove the service {container}") as api:
                services.remove(api, container)
        else:
            super().kill(container)

    def discard(self, container: str) -> None:
        """Remove the service of a container that has ended, or is just ending. Return at once."""
        self._places.pop(container, None)
        started = self._started.pop(container, None)
        if started is None and not services.is_name(container):
            super().discard(container)
            return
        with contextlib.suppress(EngineError):
            seconds = started[1].stop_timeout if started is not None else 0
            self._location.relay().remove(container, seconds, is_service=True)

    def clear_run_folder(self, container: str, run_dir: Path) -> None:
        """Do nothing: a container has no folder of this machine."""

    def start_registry(self, image: str, port: int, *, one_node: bool, timeout: float) -> str:
        """Start a registry in the swarm; return its address as ``LIFECYCLE_MAGIC_REGISTRY``."""
        registry_service.start(
            self._clients, image, port, manager=self._node_id, one_node=one_node, timeout=timeout
        )
        host = str(self._swarm().get("NodeAddr") or "") if one_node else "127.0.0.1"
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def stop_registry(self) -> None:
        """Remove the registry that `start_registry` started."""
        registry_service.stop(self._clients)

    def usage(self, container: str) -> Usage | None:
        """Return the usage of a hook's container. No manager knows that of other nodes'."""
        return None if services.is_name(container) else super().usage(container)

    def prune(self, *, keep: frozenset[str]) -> list[str]:
        """Remove what `DockerEngine.prune` removes, then guests that no service uses, and what was
        pushed of images that are gone.
        """
        gone = super().prune(keep=keep)
        return [*gone, *self._configs.remove_unused(), *self._registry.remove_unused()]
