"""Classes on a swarm of three machines: whole lives, what is pending, what is lost, what is left.

The machines are namespaces with an engine each (`tests/swarm_machines.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import psutil
import pytest
from conftest import BASE_IMAGE
from engine.swarm_work import Diary
from kernel.harness import wait_for
from swarm_machines import SwarmMachines, swarm_machines

import lifecycle_magic as lm
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.engines.choose import swarm_engine
from lifecycle_magic.engines.swarm.registry import Registry
from lifecycle_magic.exception import (
    ContainerDied,
    EngineError,
    EngineUnavailable,
    InvalidError,
    StartError,
    StartTimeout,
)
from lifecycle_magic.host.paths import state_root
from lifecycle_magic.lifecycle.history import History
from lifecycle_magic.session import session
from lifecycle_magic.ui.cli.main import main
from lifecycle_magic.ui.panel import snapshot

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.xdist_group("swarm")]


@pytest.fixture(scope="module")
def swarm(need_docker: docker.DockerClient) -> Iterator[SwarmMachines]:
    with swarm_machines(need_docker) as found:
        yield found


@pytest.fixture(autouse=True)
def on_swarm(swarm: SwarmMachines, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What leads to the swarm is set, and nothing stays there."""
    for name, value in swarm.env.items():
        monkeypatch.setenv(name, value)
    yield
    session.close("the test is over")
    wait_for(swarm.is_empty, "the removal of services and secrets")


@pytest.fixture
def diary(swarm: SwarmMachines) -> Iterator[Diary]:
    with contextlib.closing(Diary(swarm.here)) as found:
        yield found


def declare(app: lm.App, diary: Diary | None = None, **options: Any) -> Any:
    """A class whose hooks note what they do, on every node."""
    address = diary.address if diary is not None else None

    @app.cls(**options)
    class Noted:
        @lm.enter()
        def load(self) -> None:
            self.note("entered")

        def note(self, event: str) -> None:
            import socket

            if address is not None:
                with socket.create_connection(address, 5.0) as sock:
                    sock.sendall(event.encode() + b"\n")
                    sock.shutdown(socket.SHUT_WR)
                    sock.recv(1)

        @lm.method()
        def environment(self) -> dict[str, str]:
            return dict(os.environ)

        @lm.method()
        def same(self, value: Any) -> Any:
            return value

        @lm.method()
        def hold(self, name: str = "") -> None:
            self.note(f"holding {name}")
            time.sleep(600)

        @lm.exit()
        def close(self) -> None:
            self.note("exited")

    return Noted


def test_a_class_lives_on_the_swarm_from_build_to_exit(
    swarm: SwarmMachines, diary: Diary, capsys: pytest.CaptureFixture[str]
) -> None:
    app = lm.App("swarm-life", engine="swarm")
    address = diary.address

    @app.cls(
        secrets=[lm.Secret.from_dict({"TOKEN": "xyz-secret"})],
        placement=["node.role==worker"],
        buffer_containers=0,
    )
    class Model:
        @lm.build()
        def prepare(self) -> None:
            Path("/built").write_text("by the hook")

        @lm.enter()
        def load(self) -> None:
            self.word = Path("/built").read_text()
            print("entering")

        @lm.method()
        def read(self) -> tuple[str, str]:
            print("reading")
            return self.word, os.environ["TOKEN"]

        @lm.method()
        def fail(self) -> None:
            raise KeyError("what is not there")

        @lm.method()
        def same(self, value: Any) -> Any:
            return value

        @lm.method()
        def square(self, x: int) -> int:
            return x * x

        @lm.method()
        async def later(self, x: int) -> int:
            return x + 1

        @lm.method()
        def numbers(self, most: int) -> Iterator[int]:
            yield from range(most)

        @lm.wsgi_app()
        def site(self) -> Callable[..., list[bytes]]:
            def answer(environ: Any, start: Any) -> list[bytes]:
                start("200 OK", [("Content-Type", "text/plain")])
                return [b"hello from a node"]

            return answer

        @lm.method()
        def ask_other(self) -> int:
            return Other().count.remote()

        @lm.exit()
        def close(self) -> None:
            with socket.create_connection(address) as sock:
                sock.sendall(b"closed\n")

    @app.cls(engine="process")
    class Other:
        @lm.method()
        def count(self) -> int:
            return 3

    model = Model()
    assert model.read.remote() == ("by the hook", "xyz-secret")
    assert "entering\nreading" in capsys.readouterr().out
    with pytest.raises(KeyError, match="what is not there"):
        model.fail.remote()
    large = os.urandom(9 << 20)  # more than a window
    assert model.same.remote(large) == large
    assert list(model.square.map(range(30))) == [x * x for x in range(30)]
    assert list(model.numbers.remote_gen(5)) == [0, 1, 2, 3, 4]
    assert model.later.remote(1) == 2
    assert model.ask_other.remote() == 3
    with urllib.request.urlopen(model.site.get_web_url(), timeout=30) as answer:
        assert answer.read() == b"hello from a node"
    [service] = swarm.services()
    assert swarm.node_of(service["ID"]) in ("node2", "node3")
    assert "xyz-secret" not in json.dumps(service)
    assert "@sha256:" in service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
    app.stop()
    diary.wait("closed")
    session.close("the test looks at the history")
    name = service["Spec"]["Name"]
    entry = next(one for one in History(state_root()).entries() if one.container == name)
    assert (entry.engine, entry.state) == ("swarm", "exited")
    assert [hook.hook for hook in entry.hooks] == ["close"]


KERNEL = """
import socket, sys, time
import lifecycle_magic as lm

address = (sys.argv[1], int(sys.argv[2]))
app = lm.App("killed", engine="swarm")

@app.cls(max_containers=12, min_containers=12)
class Many:
    def note(self, event):
        with socket.create_connection(address, 5.0) as sock:
            sock.sendall(event.encode() + b"\\n")
            sock.shutdown(socket.SHUT_WR)
            sock.recv(1)

    @lm.enter()
    def load(self):
        self.note("entered")

    @lm.method()
    def hold(self):
        self.note("holding")
        time.sleep(600)

    @lm.exit()
    def close(self):
        self.note("exited")

calls = [Many().hold.spawn() for _ in range(3)]
time.sleep(600)
"""


def test_a_killed_kernel_has_twelve_exits_on_three_nodes(
    swarm: SwarmMachines, diary: Diary
) -> None:
    address = [str(one) for one in diary.address]
    kernel = subprocess.Popen([sys.executable, "-c", KERNEL, *address], start_new_session=True)
    try:
        diary.wait("entered", 12, timeout=120)
        diary.wait("holding", 3)
        nodes = Counter(swarm.node_of(one["ID"]) for one in swarm.services())
        assert nodes == {"node1": 4, "node2": 4, "node3": 4}
    finally:
        kernel.send_signal(signal.SIGKILL)
        kernel.wait()
    diary.wait("exited", 12)
    wait_for(swarm.is_empty, "the removal of what the kernel left")
    session.current()  # its sweep finds the reports

    def told() -> bool:
        entries = [one for one in History(state_root()).entries() if one.cls == "Many"]
        hooks = [hook.hook for one in entries for hook in one.hooks if one.state == "exited"]
        return hooks.count("close") == 12

    wait_for(told, "twelve exits in the history")


def test_the_next_session_sweeps_what_a_dead_machine_left(
    swarm: SwarmMachines, diary: Diary
) -> None:
    program = KERNEL.replace("max_containers=12, min_containers=12", "exit_grace=20")
    program = program.replace("range(3)", "range(1)")
    address = [str(one) for one in diary.address]
    kernel = subprocess.Popen([sys.executable, "-c", program, *address], start_new_session=True)
    try:
        diary.wait("holding", timeout=120)
        [service] = swarm.services()
        swarm.ask(lambda api: api.create_secret("lm-never-1", b"x", service["Spec"]["Labels"]))
    finally:
        kernel.send_signal(signal.SIGSTOP)  # it sees nothing of what follows
        kill_relays(swarm)
        kernel.send_signal(signal.SIGKILL)
        kernel.wait()
    diary.wait("exited")
    wait_for(lambda: not any(swarm.is_running(one) for one in swarm.services()), "its end")
    assert not swarm.is_empty()
    session.current().engine("swarm")  # the first use of an engine looks for such
    wait_for(swarm.is_empty, "the sweep of service and secrets")


def kill_relays(swarm: SwarmMachines) -> None:
    """Kill the relay processes that lead to the swarm."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            text = " ".join(process.cmdline())
            if "engines.relay.relay" in text and str(swarm.folder) in text:
                process.kill()


def test_what_has_no_place_says_why_and_gives_up(swarm: SwarmMachines) -> None:
    app = lm.App("pending", engine="swarm")
    large = declare(app, name="Large", memory=1 << 20, startup_timeout=8)
    mars = declare(app, name="Mars", placement=["node.labels.zone==mars"], startup_timeout=8)
    calls = [cls().same.spawn(1) for cls in (large, mars)]
    with pytest.raises(StartTimeout, match=r"no suitable node \(insufficient resources on 3 nodes"):
        calls[0].get()
    with pytest.raises(StartTimeout, match="scheduling constraints not satisfied"):
        calls[1].get()


def test_each_container_has_gpus_of_its_own(swarm: SwarmMachines) -> None:
    app = lm.App("gpus", engine="swarm")
    one = declare(app, name="One", gpu=1, cpu=0.1, memory=64)
    two = declare(app, name="Two", gpu=2, cpu=0.1, memory=64)
    given = [cls().environment.remote()["DOCKER_RESOURCE_GPU"] for cls in (one, two)]
    assert len({gpu for text in given for gpu in text.split(",")}) == 3
    rows = snapshot.of_session(session.current())
    assert {row.engine.split(": ")[1] for row in rows} == {
        "0.1 cores, 64 MiB, gpu=1",
        "0.1 cores, 64 MiB, gpu=2",
    }
    app.stop()


def test_a_service_that_is_removed_by_hand_runs_its_exit(
    swarm: SwarmMachines, diary: Diary
) -> None:
    app = lm.App("by-hand", engine="swarm")
    noted = declare(app, diary)
    call = noted().hold.spawn()
    diary.wait("holding")
    [service] = swarm.services()
    swarm.ask(lambda api: api.remove_service(service["ID"]))
    with pytest.raises(ContainerDied):
        call.get()
    diary.wait("exited")
    assert noted().same.remote(5) == 5
    app.stop()


def test_a_container_that_is_killed_ends_at_once(swarm: SwarmMachines, diary: Diary) -> None:
    app = lm.App("killed-here", engine="swarm")
    noted = declare(app, diary, exit_grace=300)
    call = noted().hold.spawn()
    diary.wait("holding")
    [container] = live_containers()
    container.end(Ending(EndKind.KILL, "the test kills it"), wait=True)
    with pytest.raises(ContainerDied, match="the test kills it"):
        call.get()
    wait_for(swarm.is_empty, "the removal of its service")
    wait_for(lambda: not any(node.containers() for node in swarm.nodes), "its end", 30)
    assert diary.events("exited") == []
    app.stop()


def test_a_relay_that_is_killed_leaves_no_service(swarm: SwarmMachines, diary: Diary) -> None:
    app = lm.App("relay-killed", engine="swarm")
    noted = declare(app, diary)
    call = noted().hold.spawn()
    diary.wait("holding")
    kill_relays(swarm)
    with pytest.raises(ContainerDied, match="the relay process has exited"):
        call.get()
    diary.wait("exited")
    assert noted().same.remote(3) == 3
    app.stop()


def test_a_drained_node_gives_exit_its_time(swarm: SwarmMachines, diary: Diary) -> None:
    app = lm.App("drained", engine="swarm")
    noted = declare(app, diary, placement=["node.role==worker"])
    assert noted().same.remote(1) == 1
    [service] = swarm.services()
    first = swarm.node_of(service["ID"])
    with drained(swarm, first):
        diary.wait("exited")
        wait_for(lambda: not live_containers(), "the end of the container")
        assert noted().same.remote(2) == 2
        [service] = [one for one in swarm.services() if one["ID"] != service["ID"]]
        assert swarm.node_of(service["ID"]) != first
    app.stop()


def live_containers() -> list[Any]:
    return session.current().containers()


@contextlib.contextmanager
def drained(swarm: SwarmMachines, name: str) -> Iterator[None]:
    """A node whose tasks swarm moves away."""

    def set_to(availability: str) -> None:
        def update(api: Any) -> None:
            node = next(one for one in api.nodes() if one["Description"]["Hostname"] == name)
            spec = {**node["Spec"], "Availability": availability}
            api.update_node(node["ID"], node["Version"]["Index"], spec)

        swarm.ask(update)

    set_to("drain")
    try:
        yield
    finally:
        set_to("active")


def test_a_volume_is_on_the_manager_until_a_label_says_otherwise(
    swarm: SwarmMachines, tmp_path: Path
) -> None:
    app = lm.App("volumes", engine="swarm")
    volume = lm.Volume.from_name("swarm-notes", create_if_missing=True)

    @app.cls(volumes={"/notes": volume})
    class Reader:
        @lm.method()
        def read(self) -> str:
            return Path("/notes/word").read_text()

    (tmp_path / "word").write_text("sent ahead")
    with volume.batch_upload() as batch:
        batch.put_file(tmp_path / "word", "/word")
    assert Reader().read.remote() == "sent ahead"
    [service] = swarm.services()
    assert swarm.node_of(service["ID"]) == "node1"
    app.stop()


# --- what is refused ------------------------------------------------------------------------------


def test_a_swarm_without_its_parts_is_refused_with_the_fix(
    swarm: SwarmMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = lm.App("refused", engine="swarm")
    monkeypatch.delenv("LIFECYCLE_MAGIC_REGISTRY")
    with pytest.raises(EngineError, match=r"none is named\. Fix: set LIFECYCLE_MAGIC_REGISTRY"):
        declare(app, name="NoRegistry")().same.remote(1)
    monkeypatch.setenv("LIFECYCLE_MAGIC_REGISTRY", f"{swarm.here}:1/classes")
    with pytest.raises(EngineError, match=r"could not be pushed as .*Fix: check LIFECYCLE_MAGIC"):
        declare(app, name="WrongRegistry")().same.remote(1)
    with pytest.raises(InvalidError, match=r"block_network=True: .*Fix: use engine='docker'"):
        declare(app, name="Blocked", block_network=True)().same.remote(1)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{swarm.nodes[1].socket}")
    with (
        contextlib.closing(swarm_engine("swarm")) as worker,
        pytest.raises(EngineUnavailable, match=r"is a worker of its swarm, and only managers"),
    ):
        worker.check()


def test_a_node_that_can_not_pull_says_so(
    swarm: SwarmMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = lm.App("no-pull", engine="swarm")
    image = lm.Image.debian_slim().run_commands("echo new > /new")
    options: dict[str, Any] = {"image": image, "placement": ["node.hostname==node3"]}
    real = Registry.reference

    def pushed(registry: Registry, image: str, nodes: int) -> str:
        found = real(registry, image, nodes)
        swarm.stop_registry()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "reference", pushed)
        try:
            with pytest.raises(StartError, match=r"did not start on node3: No such image"):
                declare(app, name="Unpulled", **options)().same.remote(1)
        finally:
            swarm.start_registry()
    assert declare(app, name="Pulled", **options)().same.remote(1) == 1
    app.stop()


def test_prune_removes_what_was_pushed_for_images_that_are_gone(swarm: SwarmMachines) -> None:
    image = lm.Image.debian_slim().run_commands("echo pushed > /pushed")
    app = lm.App("pushed", engine="swarm")
    assert declare(app, name="Pushed", image=image)().same.remote(1) == 1
    app.stop()
    session.close("its images are to go")
    wait_for(swarm.is_empty, "the removal of services and secrets")
    with contextlib.closing(swarm_engine("swarm")) as engine:
        engine.young = 0.0
        swarm.stop_registry()
        try:
            told = [one for one in engine.prune(keep=frozenset()) if "nothing of" in one]
        finally:
            swarm.start_registry()
        assert told
        assert all("did not answer" in one for one in told)
        references = {one.removeprefix("nothing of ").partition(": ")[0] for one in told}
        assert all(has_manifest(swarm, one) for one in references)
        again = [one for one in engine.prune(keep=frozenset()) if swarm.registry in one]
        assert sorted(again) == [f"image {one} of the registry" for one in sorted(references)]
        assert not any(has_manifest(swarm, one) for one in references)
        assert not [one for one in engine.prune(keep=frozenset()) if swarm.registry in one]


REGISTRY_OF_DEBIAN = """
FROM {base}
COPY docker-registry /usr/bin/docker-registry
RUN printf 'version: 0.1\\nstorage: {{filesystem: {{rootdirectory: /var/lib/registry}}}}\\n\\
http: {{addr: ":5000"}}\\n' > /registry.yml
CMD ["/usr/bin/docker-registry", "serve", "/registry.yml"]
"""


def test_a_registry_is_started_when_asked_for(
    swarm: SwarmMachines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "Dockerfile").write_text(REGISTRY_OF_DEBIAN.format(base=BASE_IMAGE))
    shutil.copy(str(shutil.which("docker-registry")), tmp_path)
    with contextlib.closing(swarm.manager.client()) as client:
        client.images.build(path=str(tmp_path), tag="registry-of-debian", rm=True)
    words = ["swarm", "registry"]
    assert main([*words, "--image", "no-such-registry", "--port", "5001", "--one-node"]) == 1
    assert "the registry does not start: No such image" in capsys.readouterr().err
    assert main([*words, "--remove"]) == 1
    assert main([*words, "--image", "registry-of-debian", "--port", "5001", "--one-node"]) == 0
    try:
        address = f"{swarm.manager.address}:5001"
        told = capsys.readouterr().out
        assert f"export LIFECYCLE_MAGIC_REGISTRY={address}" in told
        assert "It asks for no password" in told
        assert main([*words, "--image", "registry-of-debian"]) == 1
        assert "Fix: use it" in capsys.readouterr().err
        monkeypatch.setenv("LIFECYCLE_MAGIC_REGISTRY", address)
        app = lm.App("own-registry", engine="swarm")
        assert declare(app, name="There", placement=["node.role==worker"])().same.remote(1) == 1
        app.stop()
    finally:
        assert main([*words, "--remove"]) == 0


def has_manifest(swarm: SwarmMachines, reference: str) -> bool:
    """Whether the registry has an image."""
    digest = reference.partition("@")[2]
    asked = urllib.request.Request(
        f"http://{swarm.registry}/v2/classes/manifests/{digest}",
        headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
    )
    try:
        urllib.request.urlopen(asked).close()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return False
        raise
    return True


# --- managers and nodes that go -------------------------------------------------------------------


def test_a_node_that_is_cut_off_for_good_runs_its_exit_and_its_calls_run_elsewhere(
    swarm: SwarmMachines, diary: Diary
) -> None:
    app = lm.App("cut-off", engine="swarm")
    here = diary.address

    @app.cls(retries=1, placement=["node.role==worker"], min_containers=2, max_containers=2)
    class Held:
        @lm.method()
        def hold(self) -> str:
            with socket.create_connection(here, 5.0) as sock:
                sock.sendall(f"holding {os.environ['HOSTNAME']}\n".encode())
            while not os.path.exists("/go"):
                time.sleep(0.05)
            return os.environ["HOSTNAME"]

        @lm.exit()
        def close(self) -> None:
            Path("/exited").touch()

    calls = [Held().hold.spawn() for _ in range(2)]
    diary.wait("holding", 2)
    node = swarm.nodes[2]
    [lost] = [name.lstrip("/") for name in node.containers()]
    began = time.monotonic()
    with node.cut():
        diary.wait("holding", 3, timeout=60)  # on the node that is left
        assert time.monotonic() - began < 50
        wait_for(lambda: node.has_file(lost, "/exited"), "the exit on the node", 20)
    other = swarm.nodes[1]
    for one in other.containers():
        other.put_file(one.lstrip("/"), "/go")
    assert len({call.get(timeout=60) for call in calls}) == 2
    app.stop()
    wait_for(lambda: swarm.is_ready(node), "the return of the node")


EACH = int(os.environ.get("LIFECYCLE_MAGIC_SWARM_EACH", 1))
"""How many containers each of four classes has; `make soak` takes ten."""


def test_four_classes_share_the_nodes(swarm: SwarmMachines, diary: Diary) -> None:
    app = lm.App("four", engine="swarm")
    many = {"min_containers": EACH, "max_containers": EACH, "cpu": 0.01, "memory": 64}
    classes = [declare(app, diary, name=f"Kind{n}", **many) for n in range(4)]
    calls = [cls().hold.spawn(str(n)) for n, cls in enumerate(classes) for _ in range(EACH)]
    diary.wait("holding", 4 * EACH, timeout=60 + 10 * EACH)
    nodes = Counter(swarm.node_of(one["ID"]) for one in swarm.services())
    assert set(nodes) == {"node1", "node2", "node3"}
    assert sum(nodes.values()) == 4 * EACH
    assert max(nodes.values()) - min(nodes.values()) <= 1
    for call in calls:
        call.cancel()
    values = [cls().same.map(range(5 * EACH)) for cls in classes]
    assert [list(one) for one in values] == [list(range(5 * EACH))] * 4
    app.stop()
    diary.wait("exited", 4 * EACH, timeout=60 + 5 * EACH)


# --- losses that take a lease: `make soak` --------------------------------------------------------

takes_a_lease = pytest.mark.skipif(
    "LIFECYCLE_MAGIC_SWARM_LOSSES" not in os.environ, reason="minutes: make soak runs it"
)


@takes_a_lease
def test_a_cut_of_twenty_seconds_loses_nothing(swarm: SwarmMachines, diary: Diary) -> None:
    # A node is lost after three missed heartbeats. It stops its containers then.
    set_heartbeat(swarm, 10)
    app = lm.App("cut", engine="swarm")
    noted = declare(app, diary, placement=["node.hostname==node2"])
    assert noted().same.remote(1) == 1
    with swarm.nodes[1].cut():
        call = noted().same.spawn(2)
        time.sleep(20)
    assert call.get(timeout=60) == 2
    assert diary.events("exited") == []
    app.stop()
    diary.wait("exited")
    set_heartbeat(swarm, 2)


def set_heartbeat(swarm: SwarmMachines, seconds: int) -> None:
    def update(api: Any) -> None:
        told = api.inspect_swarm()
        spec = {**told["Spec"], "Dispatcher": {"HeartbeatPeriod": seconds * 10**9}}
        api.update_swarm(told["Version"]["Index"], spec)

    swarm.ask(update)
    if seconds > 2:
        time.sleep(3)  # the nodes learn it with the answer to a heartbeat


@takes_a_lease
def test_a_kernel_that_no_node_reaches_says_so(
    swarm: SwarmMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_MAGIC_ADDRESS", f"{swarm.nodes[1].address}:7000")  # not ours
    app = lm.App("unreachable", engine="swarm")
    with pytest.raises(
        StartError, match=r"did not reach its kernel: .*:7000: .*Fix: set LIFECYCLE"
    ):
        declare(app, name="Unreachable")().same.remote(1)


@takes_a_lease
def test_a_node_without_power_fails_its_own_calls_and_retries_run_elsewhere(
    swarm: SwarmMachines, diary: Diary
) -> None:
    app = lm.App("power", engine="swarm")
    two = {"placement": ["node.hostname!=node1"], "min_containers": 2, "max_containers": 2}
    noted = declare(app, diary, retries=1, **two)
    calls = [noted().hold.spawn(str(n)) for n in range(2)]
    diary.wait("holding", 2)
    swarm.nodes[2].power_off()
    diary.wait("holding", 3, timeout=90)  # after a lease of 40 s, on the node that is left
    assert diary.events("exited") == []
    for call in calls:
        call.cancel()
    app.stop()
    diary.wait("exited", 2)


@takes_a_lease
def test_another_leader_changes_nothing_for_calls_and_starts(
    swarm: SwarmMachines, diary: Diary
) -> None:
    app = lm.App("leaders", engine="swarm")
    noted = declare(app, diary)
    assert noted().same.remote(1) == 1
    with swarm.all_managers():
        with swarm.manager.frozen():
            wait_for(lambda: swarm.leader() not in (None, swarm.manager.hostname), "a new leader")
            assert noted().same.remote(2) == 2  # what runs needs no manager
            assert diary.events("entered") == ["entered"]
        assert declare(app, diary, name="Later")().same.remote(3) == 3
        app.stop()
        diary.wait("exited", 2)
