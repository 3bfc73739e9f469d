"""Three machines that are one swarm, and a registry beside them.

Each machine is a Docker engine with namespaces of its own for network, mounts and host name. A
switch, a bridge in a namespace of its own, connects them with each other and with this machine. So
neither this machine's bridges nor its firewall are touched.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import answering
import docker
import docker.errors
from conftest import BASE_IMAGE, missing
from far_machine import remove_traces
from kernel.harness import wait_for

_TOOLS = ("dockerd", "docker-registry", "ip", "iptables", "nsenter", "unshare")
_REGISTRY_PORT = 5000
_HEARTBEAT_SECONDS = 2

_REGISTRY = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: true}}}}
http: {{addr: {address}}}
"""


class SwarmNode:
    """One machine of the swarm. Its ``folder`` is seen by this machine too."""

    def __init__(self, swarm: SwarmMachines, number: int) -> None:
        self.swarm = swarm
        self.name = f"{swarm.name}n{number}"  # of its network namespace, and of its link
        self.hostname = f"node{number}"
        self.address = f"{swarm.net}.{number + 1}"
        self.folder = swarm.folder / self.hostname
        self.folder.mkdir()
        self.socket = f"{self.folder}/docker.sock"
        self._engine: subprocess.Popen[bytes] | None = None

    def connect(self) -> None:
        """Make its network, and connect it to the switch."""
        _run("ip", "netns", "add", self.name)
        peer = ["peer", "name", "eth0", "netns", self.name]
        _run("ip", "link", "add", self.name, "netns", self.swarm.name, "type", "veth", *peer)
        _run("ip", "-n", self.swarm.name, "link", "set", self.name, "master", "switch", "up")
        for words in (
            ["addr", "add", f"{self.address}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
            ["link", "set", "lo", "up"],
            ["route", "add", "default", "via", self.swarm.here],  # an engine wants one
        ):
            _run("ip", "-n", self.name, *words)

    def start_engine(self) -> None:
        """Start its engine. Return at once."""
        folder = self.folder
        gpus = " ".join(
            f"--node-generic-resource=gpu=GPU-{self.hostname}-{one}" for one in ("a", "b")
        )
        command = (
            "for hidden in /tmp /etc/docker; do mkdir -p $hidden && "  # its id is in the second
            f"mount -t tmpfs tmpfs $hidden || exit; done; hostname {self.hostname}; "
            f"exec dockerd --data-root={folder}/data --exec-root={folder}/exec "
            f"--pidfile={folder}/pid --host=unix://{self.socket} {gpus} "
            f"--insecure-registry={self.swarm.net}.0/24"
        )
        with open(folder / "engine.log", "ab") as log:
            self._engine = subprocess.Popen(
                # Not by `ip netns exec`, which hides the control groups.
                [
                    *("nsenter", f"--net=/run/netns/{self.name}"),
                    *("unshare", "--mount", "--uts", "sh", "-c", command),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def answers(self) -> bool:
        """Return whether its engine answers. Raises `OSError` if it has exited."""
        if self._engine is None or self._engine.poll() is not None:
            raise OSError((self.folder / "engine.log").read_text()[-2000:])
        return answering.pings(self.socket)

    def client(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=f"unix://{self.socket}")

    def containers(self) -> list[str]:
        """Return the names of its containers, also of those that have ended."""
        with contextlib.closing(self.client()) as client:
            return [name for one in client.api.containers(all=True) for name in one["Names"]]

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Cut its connection: packets of both directions are lost."""
        _run("ip", "-n", self.swarm.name, "link", "set", self.name, "down")
        try:
            yield
        finally:
            _run("ip", "-n", self.swarm.name, "link", "set", self.name, "up")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop its engine for a while, which answers nothing then; its containers go on."""
        assert self._engine is not None
        os.kill(self._engine.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._engine.pid, signal.SIGCONT)

    def has_file(self, container: str, path: str) -> bool:
        """Return whether a container, also one that has ended, has a file."""
        with contextlib.closing(self.client()) as client:
            try:
                client.api.get_archive(container, path)
            except docker.errors.NotFound:
                return False
            return True

    def put_file(self, container: str, path: str) -> None:
        """Make an empty file in a container that runs."""
        with contextlib.closing(self.client()) as client:
            made = client.api.exec_create(container, ["touch", path], user="0")
            client.api.exec_start(made)

    def power_off(self) -> None:
        """End everything on it at once, without a word on the network."""
        subprocess.run(["ip", "-n", self.swarm.name, "link", "set", self.name, "down"], check=False)
        self.end_engine()
        remove_traces(self.folder, self.name)

    def end_engine(self) -> None:
        """Kill its engine."""
        if self._engine is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._engine.pid, signal.SIGKILL)
            self._engine.wait()


class SwarmMachines:
    """The machines. ``here`` is this machine's address among them, ``registry`` the registry's."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lm-swarm-", dir="/var/tmp"))
        self.name = "lms" + self.folder.name[-6:].replace("_", "x")
        number = int.from_bytes(os.urandom(2), "big")
        self.net = f"10.{150 + number % 50}.{number >> 8}"
        self.here = f"{self.net}.1"
        self.registry = f"{self.here}:{_REGISTRY_PORT}"
        self.nodes = [SwarmNode(self, number) for number in (1, 2, 3)]
        self._registry: subprocess.Popen[bytes] | None = None

    @property
    def manager(self) -> SwarmNode:
        return self.nodes[0]

    @property
    def env(self) -> dict[str, str]:
        """What a process needs to use the swarm."""
        return {
            "DOCKER_HOST": f"unix://{self.manager.socket}",
            "LIFECYCLE_MAGIC_REGISTRY": f"{self.registry}/classes",
            "LIFECYCLE_MAGIC_ADDRESS": self.here,
        }

    def start(self, source: docker.DockerClient) -> None:
        """Start everything, with the base image of ``source`` on the manager.

        Raises `OSError` or ``CalledProcessError`` where that is impossible.
        """
        _run("ip", "netns", "add", self.name)
        switch = ["ip", "-n", self.name, "link"]
        _run(*switch, "add", "switch", "type", "bridge")
        _run(*switch, "set", "switch", "up")
        _run("ip", "link", "add", self.name, "type", "veth", "peer", "here", "netns", self.name)
        _run(*switch, "set", "here", "master", "switch", "up")
        _run("ip", "addr", "add", f"{self.here}/24", "dev", self.name)
        _run("ip", "link", "set", self.name, "up")
        for node in self.nodes:
            node.connect()
            node.start_engine()
        self.start_registry()
        for node in self.nodes:
            wait_for(node.answers, f"an answer of {node.hostname}; see {node.folder}/engine.log")
        self._join()
        with contextlib.closing(self.manager.client()) as client:
            client.images.load(source.images.get(BASE_IMAGE).save(named=BASE_IMAGE))

    def start_registry(self) -> None:
        """Start the registry, and wait until it listens."""
        config = self.folder / "registry.yml"
        config.write_text(_REGISTRY.format(folder=self.folder / "registry", address=self.registry))
        with open(self.folder / "registry.log", "ab") as log:
            self._registry = subprocess.Popen(
                ["docker-registry", "serve", str(config)],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(lambda: _listens(self.here, _REGISTRY_PORT), "the registry")

    def stop_registry(self) -> None:
        """End the registry; what it has stays."""
        if self._registry is not None:
            self._registry.kill()
            self._registry.wait()

    def _join(self) -> None:
        with contextlib.closing(self.manager.client()) as client:
            spec = client.api.create_swarm_spec(
                dispatcher_heartbeat_period=_HEARTBEAT_SECONDS * 10**9
            )
            client.api.init_swarm(
                advertise_addr=self.manager.address,
                listen_addr=f"{self.manager.address}:2377",
                swarm_spec=spec,
            )
            token = client.api.inspect_swarm()["JoinTokens"]["Worker"]
        for node in self.nodes[1:]:
            with contextlib.closing(node.client()) as client:
                client.api.join_swarm(
                    [f"{self.manager.address}:2377"],
                    token,
                    listen_addr=f"{node.address}:2377",
                    advertise_addr=node.address,
                )

    # --- what tests ask of it --------------------------------------------------------------

    def ask(self, question: Callable[[docker.APIClient], Any]) -> Any:
        """Return what ``question`` returns of the manager's API."""
        with contextlib.closing(self.manager.client()) as client:
            return question(client.api)

    def services(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask(lambda api: api.services())
        return found

    def is_empty(self) -> bool:
        """Return whether nothing of any class is left in the swarm but configs."""
        return not self.services() and not self.ask(lambda api: api.secrets())

    @contextlib.contextmanager
    def all_managers(self) -> Iterator[None]:
        """Every node is a manager for a while."""
        self._set_roles("manager")
        try:
            yield
        finally:
            self._set_roles("worker")

    def _set_roles(self, role: str) -> None:
        """Give every node but the first a role, and wait until it has that."""
        for node in self.nodes[1:]:
            name = node.hostname
            is_set = functools.partial(self._has_role, name, role)
            wait_for(is_set, f"{name} as a {role}", every=0.2)

    def _has_role(self, hostname: str, role: str) -> bool:
        """Ask for a role of a node, and return whether it has that."""

        def update(api: docker.APIClient) -> None:
            for node in api.nodes():
                if node["Description"]["Hostname"] == hostname and node["Spec"]["Role"] != role:
                    spec = {**node["Spec"], "Role": role}
                    api.update_node(node["ID"], node["Version"]["Index"], spec)

        try:
            self.ask(update)
            return (hostname in self._managers()) == (role == "manager")
        except docker.errors.APIError:
            return False  # no leader just now, or another change of the node came first

    def _managers(self) -> list[str]:
        """Return the nodes that are reachable as managers."""
        found = self.ask(lambda api: api.nodes())
        return [
            one["Description"]["Hostname"]
            for one in found
            if (one.get("ManagerStatus") or {}).get("Reachability") == "reachable"
        ]

    def leader(self) -> str | None:
        """Return the host name of the leader, as another manager than the first sees it."""
        with contextlib.closing(self.nodes[1].client()) as client:
            try:
                nodes = client.api.nodes()
            except docker.errors.APIError:
                return None  # there is none just now
        for node in nodes:
            if (node.get("ManagerStatus") or {}).get("Leader"):
                return str(node["Description"]["Hostname"])
        return None

    def is_ready(self, node: SwarmNode) -> bool:
        """Return whether the manager takes a node for ready."""
        return any(
            one["Description"]["Hostname"] == node.hostname and one["Status"]["State"] == "ready"
            for one in self.ask(lambda api: api.nodes())
        )

    def is_running(self, service: dict[str, Any]) -> bool:
        """Return whether a service's container runs."""
        tasks = self.ask(lambda api: api.tasks(filters={"service": service["ID"]}))
        return any(one["Status"]["State"] == "running" for one in tasks)

    def node_of(self, service: str) -> str:
        """Return the host name of the node that a service's last task is on."""
        tasks = self.ask(lambda api: api.tasks(filters={"service": service}))
        last = max(tasks, key=lambda one: one["CreatedAt"])
        node = self.ask(lambda api: api.inspect_node(last["NodeID"]))
        return str(node["Description"]["Hostname"])

    def close(self) -> None:
        """End everything and remove it."""
        self.stop_registry()
        for node in self.nodes:
            node.end_engine()
        remove_traces(self.folder, *(node.name for node in self.nodes))
        subprocess.run(["ip", "link", "del", self.name], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "netns", "del", self.name], check=False, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def swarm_machines(source: docker.DockerClient) -> Iterator[SwarmMachines]:
    """A swarm whose manager has the base image of ``source``."""
    lacking = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if lacking or os.geteuid() != 0:
        missing(f"a swarm of machines takes root and {', '.join(lacking or _TOOLS)}")
    swarm = SwarmMachines()
    try:
        try:
            swarm.start(source)
        except (OSError, subprocess.CalledProcessError) as error:
            missing(f"no swarm of machines can be made here: {error}")
        yield swarm
    finally:
        swarm.close()


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True
