"""The parts of the swarm engine that need no swarm: addresses, certificates, services, nodes."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker.errors
import pytest
import requests

from lifecycle_magic.engines.base import Launch, VolumeMount
from lifecycle_magic.engines.relay import container_port as relay_home
from lifecycle_magic.engines.relay.container_port import ContainerPort, ExpectedContainer
from lifecycle_magic.engines.swarm import services
from lifecycle_magic.engines.swarm.certificates import Authority
from lifecycle_magic.engines.swarm.guest_configs import ConfigPart
from lifecycle_magic.engines.swarm.kernel_address import kernel_address
from lifecycle_magic.engines.swarm.nodes import GpuReservation, Node
from lifecycle_magic.engines.swarm.review import review_launch, volume_constraints
from lifecycle_magic.engines.swarm.service_spec import ServiceParts, task_template
from lifecycle_magic.exception import EngineError, EngineUnavailable, InvalidError
from lifecycle_magic.gpus import request as gpus
from lifecycle_magic.spec.options import Options
from lifecycle_magic.ui.notebook.options_line import parse
from lifecycle_magic.volume import Volume
from lifecycle_magic.wire.swarm_connection import KERNEL_NAME, connect_to_kernel
from lifecycle_magic.wire.tls_stream import TlsStream

# --- addresses ------------------------------------------------------------------------------------


def test_the_address_is_that_of_the_route_to_the_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIFECYCLE_MAGIC_ADDRESS", raising=False)
    with pytest.raises(EngineError, match=r"begins at 127\.0\.0\.1.*LIFECYCLE_MAGIC_ADDRESS"):
        kernel_address("tcp://127.0.0.1:2376", "192.0.2.1")
    with pytest.raises(EngineError, match="no route leads to no-such"):
        kernel_address("unix:///var/run/docker.sock", "no-such-host.invalid")


@pytest.mark.parametrize(
    ("given", "host", "port", "listen"),
    [
        ("127.0.0.1", "127.0.0.1", 0, "127.0.0.1"),
        ("127.0.0.1:7000", "127.0.0.1", 7000, "127.0.0.1"),
        ("[::1]:7000", "::1", 7000, "::1"),
        ("::1", "::1", 0, "::1"),
        ("192.0.2.7:7000", "192.0.2.7", 7000, ""),  # a router's: this machine can't bind it
    ],
)
def test_an_address_may_be_given(
    given: str, host: str, port: int, listen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_MAGIC_ADDRESS", given)
    found = kernel_address("unix:///var/run/docker.sock", "")
    assert (found.host, found.port, found.listen) == (host, port, listen)


@pytest.mark.parametrize("given", ["a b", "host:port", "host:99999", "http://host"])
def test_what_is_no_address_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_MAGIC_ADDRESS", given)
    with pytest.raises(EngineError, match="is no address"):
        kernel_address("unix:///var/run/docker.sock", "")


# --- the port that containers connect to ----------------------------------------------------------


class Listening:
    """A `ContainerPort` in a loop of its own, and who was admitted."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority()
        self.admitted: list[str] = []
        self.folder = folder
        self._selector = selectors.DefaultSelector()
        self._home = ContainerPort(self._selector, self._on_connected)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0

    def expect(self, name: str, token: str) -> None:
        run = self.folder / name
        run.mkdir()
        paths = [self.folder / "authority.pem", self.folder / "kernel.pem"]
        paths[0].write_text(self.authority.pem)
        paths[1].write_text(self.authority.identity(KERNEL_NAME, serves=True))
        one = ExpectedContainer(name, str(run), "", 1.0, token, -1)
        self.port = self._home.expect(one, "127.0.0.1", 0, str(paths[0]), str(paths[1]))
        assert not any(path.exists() for path in paths)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            self._home.tick(time.monotonic())
            for key, events in self._selector.select(0.02):
                key.data(events)

    def _on_connected(self, one: ExpectedContainer, stream: TlsStream) -> None:
        self.admitted.append(one.container)
        stream.write(memoryview(b"hello"))
        stream.close()

    def dial(self, name: str, token: str, authority: Authority | None = None) -> bytes:
        """Return what the kernel answers to a container, empty if it is refused."""
        known = authority or self.authority
        content = services.secret_content(known, name, "127.0.0.1", self.port, token)
        secret = self.folder / f"secret-{time.monotonic_ns()}"
        secret.write_bytes(content)
        try:
            with contextlib.closing(connect_to_kernel(str(secret), str(self.folder))) as sock:
                return sock.recv(100)
        except OSError:
            return b""
        finally:
            assert not (self.folder / "identity.pem").exists()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._home.close()
        self._selector.close()


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Listening]:
    with contextlib.closing(Listening(tmp_path)) as found:
        yield found


def test_a_token_admits_its_container_once(listening: Listening) -> None:
    listening.expect("lm-a-1", "a" * 64)
    listening.expect("lm-b-1", "b" * 64)
    listening.start()
    assert listening.dial("lm-a-1", "b" * 64) == b""  # another one's token
    assert listening.dial("lm-b-1", "a" * 64) == b""
    assert listening.dial("lm-x-1", "a" * 64) == b""  # nobody expects it
    assert listening.dial("lm-a-1", "a" * 64) == b"hello"
    assert listening.dial("lm-a-1", "a" * 64) == b""
    assert listening.dial("lm-b-1", "b" * 64) == b"hello"
    assert listening.admitted == ["lm-a-1", "lm-b-1"]


def answer_to(context: ssl.SSLContext, port: int) -> bytes:
    """What a token gets over TLS with this context."""
    plain = socket.create_connection(("127.0.0.1", port))
    try:
        with context.wrap_socket(plain, server_hostname=KERNEL_NAME) as sock:
            sock.sendall(b"a" * 64)
            return sock.recv(100)
    except OSError:
        return b""


def test_nothing_is_read_of_a_stranger(listening: Listening) -> None:
    listening.expect("lm-a-1", "a" * 64)
    listening.start()
    with socket.create_connection(("127.0.0.1", listening.port)) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        plain.settimeout(20)
        with contextlib.suppress(ConnectionResetError):
            while plain.recv(100):
                pass  # an alert of TLS, and the end
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=listening.authority.pem)
    assert answer_to(context, listening.port) == b""  # no certificate
    identity = listening.folder / "other.pem"
    identity.write_text(Authority().identity("lm-a-1"))
    context.load_cert_chain(identity)
    assert answer_to(context, listening.port) == b""  # one of another authority
    assert listening.admitted == []
    assert listening.dial("lm-a-1", "a" * 64) == b"hello"


def test_a_container_refuses_another_kernel(listening: Listening) -> None:
    listening.expect("lm-a-1", "a" * 64)
    listening.start()
    assert listening.dial("lm-a-1", "a" * 64, authority=Authority()) == b""
    assert listening.admitted == []


def test_silent_connections_keep_nobody_out(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_home, "MAX_NEWCOMERS", 4)
    listening.expect("lm-a-1", "a" * 64)
    listening.start()
    with contextlib.ExitStack() as open_ones:
        for _ in range(12):
            open_ones.enter_context(socket.create_connection(("127.0.0.1", listening.port)))
        assert listening.dial("lm-a-1", "a" * 64) == b"hello"


# --- services -------------------------------------------------------------------------------------


def launch(**changes: Any) -> Launch:
    given: dict[str, Any] = {
        "name": "lm-model-1",
        "image": "sha256:abc",
        "run_dir": Path("/run/x"),
        "guest_dir": Path("/guest"),
        "labels": {"lifecycle-magic.session": "s"},
    }
    return Launch(**{**given, **changes})


def node(**changes: Any) -> Node:
    given: dict[str, Any] = {
        "id": "n1",
        "name": "box1",
        "ready": True,
        "cores": 4,
        "memory": 8 << 30,
        "kinds": {},
        "labels": {},
        "note": "active",
    }
    return Node(**{**given, **changes})


PARTS = ServiceParts("registry/classes@sha256:1", "secret", [ConfigPart("c", "config")])


def test_a_service_is_one_container_that_is_never_started_again() -> None:
    made = task_template(
        launch(cpu=1.5, memory=512, shm_size=64, placement=("node.role==worker",)),
        ServiceParts(
            "i", "s", [], gpus=GpuReservation("gpu", 2, True), constraints=["node.id==n1"]
        ),
    )
    assert made["RestartPolicy"] == {"Condition": "none"}
    assert made["Placement"]["Constraints"] == ["node.role==worker", "node.id==n1"]
    reserved = made["Resources"]["Reservations"]
    assert reserved["NanoCPUs"] == 1_500_000_000
    assert reserved["MemoryBytes"] == 512 << 20
    assert reserved["GenericResources"] == [{"DiscreteResourceSpec": {"Kind": "gpu", "Value": 2}}]
    assert made["Resources"]["Limits"]["MemoryBytes"] == 512 << 20
    container = made["ContainerSpec"]
    assert container["CapabilityDrop"] == ["ALL"]
    assert container["StopGracePeriod"] == 35 * 10**9
    shared = [one for one in container["Mounts"] if one["Target"] == "/dev/shm"]
    assert shared[0]["TmpfsOptions"]["SizeBytes"] == 64 << 20


def test_the_program_of_a_service_needs_nothing_of_this_package() -> None:
    command = task_template(launch(), PARTS)["ContainerSpec"]["Command"]
    compile(command[2], "prelude", "exec")
    before = command[2].partition("sys.path.insert")[0]
    assert "import lifecycle_magic" not in before
    assert "from lifecycle_magic" not in before


def test_a_swarm_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    mounts = (VolumeMount("/data", Volume.from_path(tmp_path)),)
    found = review_launch(
        launch(mounts=mounts, block_network=True, gpu=gpus.read(1)), [node()], "here", "n1"
    )
    assert len(found.refused) == 3
    assert "add_local_dir" in found.refused[0]
    assert "block_network=True" in found.refused[1]
    assert "node-generic-resources" in found.refused[2]
    found = review_launch(
        launch(memory=1 << 20, gpu=gpus.read("A100:2")), [node(kinds={"gpu": 2})], "h", "n1"
    )
    assert found.refused == ()
    assert "waits for a larger one" in found.ignored[0]
    assert "the model can't be chosen" in found.ignored[1]
    found = review_launch(launch(gpu=gpus.read("device=0")), [node(kinds={"gpu": 2})], "h", "n1")
    assert "reserves whole GPUs" in found.refused[0]
    assert (
        review_launch(launch(gpu=gpus.read("A100")), [node(kinds={"A100": 2})], "h", "n1").ignored
        == ()
    )


def test_a_volume_keeps_its_containers_on_the_node_that_has_it() -> None:
    mounts = (VolumeMount("/data", Volume.from_name("weights")),)
    nodes = [node(), node(id="n2", name="box2")]
    assert volume_constraints(launch(mounts=mounts), nodes, "n1") == ("node.id==n1",)
    told = review_launch(launch(mounts=mounts), nodes, "here", "n1").ignored
    assert "keeps its containers on box1" in told[0]
    nodes[1] = node(id="n2", name="box2", labels={"lifecycle-magic.volume.weights": "true"})
    constraint = "node.labels.lifecycle-magic.volume.weights==true"
    assert volume_constraints(launch(mounts=mounts), nodes, "n1") == (constraint,)
    assert "box2" in review_launch(launch(mounts=mounts), nodes, "here", "n1").ignored[0]


def test_who_is_no_manager_is_told_where_one_is() -> None:
    services.require_manager({"ControlAvailable": True}, "here")
    with pytest.raises(EngineUnavailable, match="docker swarm init"):
        services.require_manager({"LocalNodeState": "inactive"}, "here")
    worker = {"LocalNodeState": "active", "RemoteManagers": [{"Addr": "10.0.0.1:2377"}]}
    with pytest.raises(EngineUnavailable, match=r"swarm://10\.0\.0\.1:2376"):
        services.require_manager(worker, "here")


class Moving:
    """The API of a swarm in which a service goes between two questions."""

    def services(self, filters: object) -> list[dict[str, Any]]:
        return [{"ID": one, "Spec": {"Name": f"lm-{one}", "Labels": {}}} for one in ("a", "b")]

    def secrets(self, filters: object) -> list[dict[str, Any]]:
        return []

    def tasks(self, filters: object = None) -> list[dict[str, Any]]:
        if filters is not None:
            answer = requests.Response()
            answer.status_code = 404
            raise docker.errors.NotFound("service a not found", answer)
        status = {"State": "running"}
        return [{"ServiceID": "b", "CreatedAt": "1", "Status": status, "NodeID": "n1"}]


def test_a_service_that_goes_meanwhile_hides_no_other() -> None:
    found = services.list_services(Moving(), {"n1": "box1"})
    assert [(one.name, one.node, one.running) for one in found] == [
        ("lm-a", "", True),
        ("lm-b", "box1", True),
    ]


def test_a_task_of_a_lost_node_has_ended() -> None:
    lost = {"Status": {"State": "assigned"}, "DesiredState": "shutdown", "NodeID": "n1"}
    task = services.Task.of(lost, {"n1": "box1"})
    assert task.ended
    assert task.note == "box1 was lost before it started"
    waiting = {"Status": {"State": "pending", "Err": "no suitable node"}, "DesiredState": "running"}
    task = services.Task.of(waiting, {})
    assert (task.ended, task.node, task.note) == (False, "", "no suitable node")


# --- the option -----------------------------------------------------------------------------------


def test_placement_is_a_list_of_constraints() -> None:
    made = Options.make("Model", placement=["node.labels.zone==a", "node.role != manager"])
    assert made.placement == ("node.labels.zone==a", "node.role != manager")
    line = parse("--placement node.labels.zone==a node.hostname!=box1 --cpu 1").options
    assert line.placement == ("node.labels.zone==a", "node.hostname!=box1")
    assert parse("--cpu 1").options.placement == ()
    wrong: list[Any] = ["zone==a", ["node.labels.zone"], [3], ["spread=zone"]]
    for one in wrong:
        with pytest.raises(InvalidError, match="placement"):
            Options.make("Model", placement=one)


def test_a_swarm_is_an_engine_by_name_and_address() -> None:
    for name in ("swarm", "swarm://manager", "swarm://10.0.0.1:2376"):
        assert Options.make("Model", engine=name).engine == name
