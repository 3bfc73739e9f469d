"""The docker engine against a real one: launching, limits, volumes, dialling home, and the end.

The guest here is a few lines that dial home and evaluate what they are told; the engine knows no
more of the real one.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import docker.errors
import psutil
import pytest

from lifecycle_magic.engines.base import LABEL, Ended, Launch, Mount
from lifecycle_magic.engines.docker import DockerEngine
from lifecycle_magic.engines.docker_names import ROLE, VOLUME_PREFIX
from lifecycle_magic.exception import EngineError, EngineUnavailable
from lifecycle_magic.image import Image
from lifecycle_magic.volume import Volume

pytestmark = pytest.mark.docker

GUEST = """
import json, os, signal, socket, subprocess, sys, threading

print("the guest says something early")
run = sys.argv[1]
with open(run + "/boot.json") as file:
    kind, _, where = json.load(file)["address"].partition(":")
if kind == "tcp":
    host, _, port = where.rpartition(":")
    sock = socket.create_connection((host, int(port)))
else:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(where)

def write(path, text):
    with open(path, "w") as file:
        file.write(text)

def read(path):
    with open(path) as file:
        return file.read()

stream = sock.makefile("rw")
for line in stream:
    try:
        told = {"value": eval(json.loads(line))}
    except Exception as error:
        told = {"error": repr(error)}
    stream.write(json.dumps(told) + "\\n")
    stream.flush()
"""


class Far:
    """A container whose guest dialled home."""

    def __init__(self, id_: str, name: str, run_dir: Path, sock: socket.socket) -> None:
        self.id = id_
        self.name = name
        self.run_dir = run_dir
        self._sock = sock
        self._stream = sock.makefile("rw")

    def ask(self, expression: str) -> Any:
        """What the guest makes of a Python expression."""
        self._stream.write(json.dumps(expression) + "\n")
        self._stream.flush()
        line = self._stream.readline()
        if not line:
            raise ConnectionResetError("the guest is gone")
        told = json.loads(line)
        assert "error" not in told, told["error"]
        return told["value"]

    def hang_up(self) -> None:
        """Which ends the guest."""
        self._stream.close()
        self._sock.close()


class Fleet:
    """Starts containers and sees to it that none is left."""

    def __init__(self, engine: DockerEngine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.guest_dir = folder / "guest"
        self.guest_dir.mkdir(mode=0o755)
        (self.guest_dir / "__main__.py").write_text(GUEST)
        self.started: list[str] = []
        self._far: list[Far] = []

    def order(self, image: str, **options: Any) -> Launch:
        name = f"lm-test-{secrets.token_hex(6)}"
        run_dir = self.folder / name
        run_dir.mkdir(mode=0o700)
        labels = {f"{LABEL}.session": "test", f"{LABEL}.class": "Test"}
        return Launch(name, image, run_dir, self.guest_dir, labels, **options)

    def start(self, launch: Launch) -> Far:
        listener = self.engine.listen(launch.run_dir)
        with listener.sock as sock:
            sock.settimeout(30)
            boot = {"address": listener.address}
            (launch.run_dir / "boot.json").write_text(json.dumps(boot))
            container = self.engine.launch(launch)
            self.started.append(container)
            accepted, _ = sock.accept()
        accepted.settimeout(30)
        self._far.append(Far(container, launch.name, launch.run_dir, accepted))
        return self._far[-1]

    def close(self) -> None:
        for container in self.started:
            self.engine.kill(container)
        for far in self._far:
            far.hang_up()


@pytest.fixture(scope="module")
def engine(need_docker: docker.DockerClient) -> Iterator[DockerEngine]:
    with contextlib.closing(DockerEngine()) as made:
        yield made


@pytest.fixture(scope="module")
def base(engine: DockerEngine) -> str:
    return engine.base_id(Image.debian_slim())


@pytest.fixture
def removed_image(need_docker: docker.DockerClient) -> Iterator[list[str]]:
    """Ids of images that are removed when the containers are gone."""
    ids: list[str] = []
    yield ids
    for id_ in reversed(ids):
        need_docker.images.remove(id_, force=True)


@pytest.fixture
def fleet(engine: DockerEngine, tmp_path: Path, removed_image: list[str]) -> Iterator[Fleet]:
    fleet = Fleet(engine, tmp_path)
    yield fleet
    fleet.close()


@pytest.fixture
def start(fleet: Fleet, base: str) -> Callable[..., Far]:
    """Start a container of the base image with these options of `Launch`."""

    def start(**options: Any) -> Far:
        return fleet.start(fleet.order(options.pop("image", base), **options))

    return start


# --- what answers --------------------------------------------------------------------------------


def test_check_says_what_answers_and_where(
    engine: DockerEngine, need_docker: docker.DockerClient
) -> None:
    version = need_docker.version()["Version"]
    where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    assert engine.check() == f"Docker {version} at {where}"


def test_a_socket_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with pytest.raises(EngineUnavailable, match=f"at unix://{tmp_path}/docker.sock.*start the en"):
        DockerEngine().check()


def test_a_socket_that_nobody_serves_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "sock"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/sock")
    with pytest.raises(EngineUnavailable, match=f"{tmp_path}/sock: Connection refused"):
        DockerEngine().check()


class Proxy:
    """A TCP port of this machine that leads to the engine, until it is cut."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._socks: list[socket.socket] = []
        self.host = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._target)
            self._socks += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


@pytest.fixture
def proxy(need_docker: docker.DockerClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not where.startswith("unix://"):
        pytest.skip(f"DOCKER_HOST is {where}, and this needs the engine's Unix socket")
    proxy = Proxy(where.removeprefix("unix://"))
    monkeypatch.setenv("DOCKER_HOST", proxy.host)
    yield proxy
    proxy.cut()


def test_docker_host_is_read_as_docker_reads_it(proxy: Proxy) -> None:
    with contextlib.closing(DockerEngine()) as engine:
        assert engine.check().endswith(f"at {proxy.host}")
        assert engine.base_id(Image.debian_slim()).startswith("sha256:")


def test_an_engine_that_went_away_is_said_to_be_unavailable(proxy: Proxy) -> None:
    with contextlib.closing(DockerEngine()) as engine:
        engine.check()
        proxy.cut()
        with pytest.raises(EngineUnavailable, match=f"no Docker engine answers at {proxy.host}"):
            engine.containers()


def test_an_engine_that_goes_away_in_the_middle_of_a_build_is_said_to_be_unavailable(
    proxy: Proxy,
) -> None:
    image = Image.debian_slim().run_commands("echo begun; sleep 1000")
    with contextlib.closing(DockerEngine()) as engine, pytest.raises(EngineUnavailable):
        engine.build(
            image,
            secrets.token_hex(32),
            lambda told: proxy.cut() if told.status == "output" else None,
        )


def test_an_engine_may_be_used_by_many_threads(engine: DockerEngine, base: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: engine.base_id(Image.debian_slim()), range(64)))
        nothing = list(threads.map(engine.find, [secrets.token_hex(32) for _ in range(16)]))
    assert set(found) == {base}
    assert nothing == [None] * 16


# --- what the guest finds ------------------------------------------------------------------------


def test_the_guest_is_process_one_and_dials_home(start: Callable[..., Far]) -> None:
    far = start()
    assert far.ask("[os.getpid(), os.getuid(), sys.argv, __name__]") == [
        1,
        0,
        ["/opt/lifecycle_magic", "/run/lifecycle"],
        "__main__",
    ]


def test_what_the_guest_prints_before_it_has_a_log_is_in_the_run_folder(
    start: Callable[..., Far],
) -> None:
    far = start()
    far.ask("sys.stdout.flush()")
    assert (far.run_dir / "start.log").read_text() == "the guest says something early\n"


def test_the_run_folder_is_writable_and_the_guest_is_not(start: Callable[..., Far]) -> None:
    far = start()
    far.ask("write('/run/lifecycle/report', 'done')")
    assert (far.run_dir / "report").read_text() == "done"
    assert far.ask("os.access('/opt/lifecycle_magic', os.W_OK)") is False


def test_the_container_has_nothing_of_this_environment(
    start: Callable[..., Far], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_TEST_TOKEN", "hunter2")
    assert "hunter2" not in start().ask("repr(dict(os.environ)) + read('/proc/1/environ')")


def test_modules_in_the_working_folder_do_not_hide_the_standard_library(
    engine: DockerEngine, start: Callable[..., Far], removed_image: list[str]
) -> None:
    image = Image.debian_slim().workdir("/w").run_commands("echo 'raise SystemExit(3)' > json.py")
    built = engine.build(image, secrets.token_hex(32), lambda told: None)
    removed_image.append(built)
    assert start(image=built).ask("os.getcwd()") == "/w"


def test_no_more_rights_than_package_installs_and_user_code_need(
    start: Callable[..., Far],
) -> None:
    far = start()
    status = dict(
        line.split(":\t", 1) for line in far.ask("read('/proc/self/status')").splitlines()
    )
    assert status["NoNewPrivs"] == "1"
    # chown 0, dac_override 1, fowner 3, fsetid 4, kill 5, setgid 6, setuid 7
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0b11111011
    assert far.ask("[os.chown('/tmp', 1000, 1000), os.seteuid(1000), os.geteuid()][-1]") == 1000


def test_a_run_folder_with_a_long_path_works(fleet: Fleet, base: str, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    launch = replace(fleet.order(base), run_dir=deep)
    assert len(str(deep / "sock")) > 107
    assert fleet.start(launch).ask("1 + 1") == 2


def test_the_socket_is_for_this_user_alone(engine: DockerEngine, tmp_path: Path) -> None:
    with engine.listen(tmp_path).sock:
        assert (tmp_path / "sock").stat().st_mode & 0o777 == 0o600


def test_where_no_unix_socket_can_be_shared_the_guest_dials_over_tcp(
    base: str, tmp_path: Path
) -> None:
    with contextlib.closing(DockerEngine(transport="tcp")) as engine:
        fleet = Fleet(engine, tmp_path)
        try:
            far = fleet.start(fleet.order(base))
            assert far.ask("kind") == "tcp"
            assert not (far.run_dir / "sock").exists()
        finally:
            fleet.close()


def test_the_tcp_port_is_where_only_this_machine_and_its_containers_reach_it(
    need_docker: docker.DockerClient, tmp_path: Path
) -> None:
    with contextlib.closing(DockerEngine(transport="tcp")) as engine:
        listener = engine.listen(tmp_path)
        with listener.sock as sock:
            host, port = sock.getsockname()
    options = need_docker.api.inspect_network("bridge")["Options"]
    addresses = psutil.net_if_addrs()[options["com.docker.network.bridge.name"]]
    bridge = next(one.address for one in addresses if one.family == socket.AF_INET)
    assert host in ("127.0.0.1", bridge)
    assert listener.address in (f"tcp:{bridge}:{port}", f"tcp:host.docker.internal:{port}")


# --- limits --------------------------------------------------------------------------------------


def test_a_blocked_network_leaves_only_the_way_home(start: Callable[..., Far]) -> None:
    assert start(block_network=True).ask("[name for _, name in socket.if_nameindex()]") == ["lo"]


def test_a_blocked_network_is_refused_where_the_way_home_is_tcp(fleet: Fleet, base: str) -> None:
    with contextlib.closing(DockerEngine(transport="tcp")) as engine:
        told = engine.review(Image.debian_slim(), fleet.order(base, block_network=True))
    assert [text.partition("=")[0] for text in told.refused] == ["block_network"]


def test_shared_memory_has_the_size_that_was_asked_for(start: Callable[..., Far]) -> None:
    size = "(lambda s: s.f_blocks * s.f_frsize >> 20)(os.statvfs('/dev/shm'))"
    assert start(shm_size=200).ask(size) == 200


def test_more_cores_than_there_are_is_capped_and_told(
    engine: DockerEngine, fleet: Fleet, base: str
) -> None:
    launch = fleet.order(base, cpu=1000.0)
    told = engine.review(Image.debian_slim(), launch)
    assert told.refused == ()
    assert any("cpu=1000" in text for text in told.ignored)
    assert fleet.start(launch).ask("1 + 1") == 2


def test_what_the_engine_can_do_needs_no_word(
    engine: DockerEngine, fleet: Fleet, base: str
) -> None:
    launch = fleet.order(base, cpu=1.0, memory=256, shm_size=64, block_network=True)
    told = engine.review(Image.debian_slim().apt_install("git"), launch)
    assert (told.refused, told.ignored) == ((), ())


def test_too_little_memory_is_refused_in_the_engines_words(
    engine: DockerEngine, fleet: Fleet, base: str
) -> None:
    launch = fleet.order(base, memory=1)
    with pytest.raises(EngineError, match=r"(?i)minimum memory limit.*memory="):
        engine.launch(launch)
    assert launch.name not in {found.name for found in engine.containers()}


def test_a_container_over_its_memory_limit_ends_and_the_engine_says_why(
    engine: DockerEngine, start: Callable[..., Far]
) -> None:
    far = start(memory=32)
    with pytest.raises((ConnectionError, TimeoutError)):
        far.ask("len(bytearray(os.urandom(1) * (200 << 20)))")
    assert engine.ended(far.id) == Ended(exit_code=137, oom=True)


# --- volumes -------------------------------------------------------------------------------------


def test_a_named_volume_outlives_its_container(
    need_docker: docker.DockerClient, engine: DockerEngine, start: Callable[..., Far]
) -> None:
    name = f"test-{secrets.token_hex(6)}"
    mounts = (Mount("/kept", Volume.from_name(name)),)
    try:
        first = start(mounts=mounts)
        first.ask("write('/kept/file', 'kept')")
        engine.kill(first.id)
        assert start(mounts=mounts).ask("read('/kept/file')") == "kept"
        volume = need_docker.volumes.get(VOLUME_PREFIX + name)
        assert volume.attrs["Labels"] == {ROLE: "volume"}
    finally:
        for container in need_docker.containers.list(filters={"volume": VOLUME_PREFIX + name}):
            engine.kill(str(container.id))
        need_docker.volumes.get(VOLUME_PREFIX + name).remove()


def test_a_volume_hides_what_the_image_has_there(start: Callable[..., Far]) -> None:
    assert (
        start(mounts=(Mount("/etc/apt", Volume.ephemeral()),)).ask("os.listdir('/etc/apt')") == []
    )


def test_a_volume_that_must_be_there_and_is_not_is_named(
    engine: DockerEngine, need_docker: docker.DockerClient, fleet: Fleet, base: str
) -> None:
    volume = Volume.from_name(f"test-{secrets.token_hex(6)}", create_if_missing=False)
    launch = fleet.order(base, mounts=(Mount("/weights", volume),))
    with pytest.raises(EngineError, match=f"{volume.name}.* for /weights is not there"):
        engine.launch(launch)
    with pytest.raises(docker.errors.NotFound):
        need_docker.volumes.get(f"{VOLUME_PREFIX}{volume.name}")


def test_a_path_volume_is_the_hosts_folder_itself(
    start: Callable[..., Far], tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "in").write_text("from the host")
    far = start(mounts=(Mount("/data", Volume.from_path(tmp_path / "data")),))
    assert far.ask("read('/data/in')") == "from the host"
    far.ask("write('/data/out', 'from the container')")
    assert (tmp_path / "data" / "out").read_text() == "from the container"


def test_a_folder_that_went_away_is_named_with_the_mend(
    engine: DockerEngine, fleet: Fleet, base: str, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    volume = Volume.from_path(tmp_path / "data")
    (tmp_path / "data").rmdir()
    with pytest.raises(EngineError, match=rf"{tmp_path}/data.*the same machine"):
        engine.launch(fleet.order(base, mounts=(Mount("/data", volume),)))


def test_an_ephemeral_volume_is_empty_and_goes_with_its_container(
    need_docker: docker.DockerClient, engine: DockerEngine, start: Callable[..., Far]
) -> None:
    far = start(mounts=(Mount("/scratch", Volume.ephemeral()),))
    assert far.ask("os.listdir('/scratch')") == []
    (volume,) = (
        mount["Name"]
        for mount in need_docker.api.inspect_container(far.id)["Mounts"]
        if mount["Destination"] == "/scratch"
    )
    far.hang_up()
    assert engine.ended(far.id) == Ended(0)
    with pytest.raises(docker.errors.NotFound):
        need_docker.volumes.get(volume)


# --- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 7])
def test_a_container_removes_itself_and_its_exit_code_is_known(
    engine: DockerEngine, start: Callable[..., Far], code: int
) -> None:
    far = start()
    with pytest.raises(ConnectionError):
        far.ask(f"os._exit({code})")
    assert engine.ended(far.id) == Ended(code)
    assert far.id not in {found.id for found in engine.containers()}


def test_how_a_container_ended_that_never_was_is_not_known(engine: DockerEngine) -> None:
    assert engine.ended(secrets.token_hex(32)) is None


def test_a_killed_container_is_gone_at_once(
    engine: DockerEngine, start: Callable[..., Far]
) -> None:
    far = start()
    engine.kill(far.id)
    assert far.id not in {found.id for found in engine.containers()}
    assert engine.ended(far.id) == Ended(137)


def test_killing_what_is_gone_is_fine(engine: DockerEngine, start: Callable[..., Far]) -> None:
    far = start()
    far.hang_up()
    engine.kill(far.id)
    engine.kill(far.id)
    engine.kill(secrets.token_hex(32))


def test_docker_stop_is_polite_first_and_waits_as_long_as_was_asked(
    need_docker: docker.DockerClient, engine: DockerEngine, start: Callable[..., Far]
) -> None:
    polite = start(stop_timeout=60)
    polite.ask("signal.signal(signal.SIGTERM, lambda *_: os._exit(15)) and None")
    need_docker.containers.get(polite.id).stop()
    assert engine.ended(polite.id) == Ended(15)
    deaf = start(stop_timeout=1)
    need_docker.containers.get(deaf.id).stop()
    assert engine.ended(deaf.id) == Ended(137)


# --- what does not start -------------------------------------------------------------------------


def test_an_image_without_python_is_refused_by_name_and_leaves_nothing(
    engine: DockerEngine, fleet: Fleet, removed_image: list[str]
) -> None:
    image = Image.debian_slim().run_commands('rm "$(command -v python3)"')
    built = engine.build(image, secrets.token_hex(32), lambda told: None)
    removed_image.append(built)
    launch = fleet.order(built)
    with pytest.raises(EngineError, match="no python3 on its path"):
        engine.launch(launch)
    assert launch.name not in {found.name for found in engine.containers()}


def test_an_image_that_is_gone_is_named(engine: DockerEngine, fleet: Fleet) -> None:
    missing = "sha256:" + secrets.token_hex(32)
    with pytest.raises(EngineError, match=f"(?i)no such image: {missing}.*run the cell again"):
        engine.launch(fleet.order(missing))


# --- looking on ----------------------------------------------------------------------------------


def test_containers_are_found_with_their_labels(
    need_docker: docker.DockerClient, engine: DockerEngine, start: Callable[..., Far], base: str
) -> None:
    far = start()
    foreign = need_docker.containers.run(base, ["sleep", "1000"], detach=True, auto_remove=True)
    try:
        found = {one.id: one for one in engine.containers()}
        assert found[far.id].name == far.name
        assert found[far.id].running
        assert found[far.id].labels[f"{LABEL}.class"] == "Test"
        assert foreign.id not in found
    finally:
        foreign.remove(force=True)


def test_usage_is_what_the_container_uses(engine: DockerEngine, start: Callable[..., Far]) -> None:
    far = start(memory=256)
    assert far.ask("globals().__setitem__('held', os.urandom(64 << 20))") is None
    engine.usage(far.id)
    far.ask("sum(range(10_000_000))")
    used = engine.usage(far.id)
    assert used is not None
    assert 64 << 20 < used.memory < 256 << 20
    assert used.memory_limit == 256 << 20
    assert used.cpu > 0
    far.hang_up()
    engine.ended(far.id)
    assert engine.usage(far.id) is None


def test_usage_of_a_container_that_another_engine_object_started_is_known(
    start: Callable[..., Far],
) -> None:
    far = start()
    with contextlib.closing(DockerEngine()) as other:
        used = other.usage(far.id)
    assert used is not None
    assert used.memory > 0
    assert used.memory_limit is None
