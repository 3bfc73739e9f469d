"""The docker engine against a real one: what it promises beyond what every engine does.

That is in ``test_engines.py``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import docker.errors
import pytest
from engine.bench import DockerBench

from lifecycle_magic.engines.base import Ended, VolumeMount
from lifecycle_magic.engines.docker.engine import DockerEngine
from lifecycle_magic.engines.docker.names import ROLE, VOLUME_PREFIX
from lifecycle_magic.exception import EngineError, EngineUnavailable
from lifecycle_magic.images.image import Image
from lifecycle_magic.volume import Volume

pytestmark = pytest.mark.docker


# --- what answers --------------------------------------------------------------------------------


def test_check_says_what_answers_and_where(
    in_docker: DockerBench, need_docker: docker.DockerClient
) -> None:
    version = need_docker.version()["Version"]
    where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    assert in_docker.engine.check() == f"Docker {version} at {where}"


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


def test_an_engine_may_be_used_by_many_threads(in_docker: DockerBench) -> None:
    engine = in_docker.engine
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: engine.base_id(Image.debian_slim()), range(64)))
        nothing = list(threads.map(engine.find, [secrets.token_hex(32) for _ in range(16)]))
    assert set(found) == {in_docker.base}
    assert nothing == [None] * 16


# --- what the guest finds ------------------------------------------------------------------------


def test_the_guest_is_process_one_and_dials_home(in_docker: DockerBench) -> None:
    far = in_docker.start()
    assert far.ask("[os.getpid(), os.getuid(), sys.argv, __name__]") == [
        1,
        0,
        ["/opt/lifecycle_magic", "/run/lifecycle"],
        "__main__",
    ]


def test_modules_in_the_working_folder_do_not_hide_the_standard_library(
    in_docker: DockerBench,
) -> None:
    image = Image.debian_slim().workdir("/w").run_commands("echo 'raise SystemExit(3)' > json.py")
    assert in_docker.start(in_docker.image(image)).ask("os.getcwd()") == "/w"


def test_no_more_rights_than_package_installs_and_user_code_need(
    in_docker: DockerBench,
) -> None:
    far = in_docker.start()
    status = dict(
        line.split(":\t", 1) for line in far.ask("read('/proc/self/status')").splitlines()
    )
    assert status["NoNewPrivs"] == "1"
    # chown 0, dac_override 1, fowner 3, fsetid 4, kill 5, setgid 6, setuid 7
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0b11111011
    assert far.ask("[os.chown('/tmp', 1000, 1000), os.seteuid(1000), os.geteuid()][-1]") == 1000


# --- limits --------------------------------------------------------------------------------------


def test_what_the_engine_can_do_needs_no_word(
    in_docker: DockerBench,
) -> None:
    launch = in_docker.describe(cpu=1.0, memory=256, shm_size=64, block_network=True)
    told = in_docker.engine.review(Image.debian_slim().apt_install("git"), launch)
    assert (told.refused, told.ignored) == ((), ())


def test_too_little_memory_is_refused_in_the_engines_words(
    in_docker: DockerBench,
) -> None:
    launch = in_docker.describe(memory=1)
    with pytest.raises(EngineError, match=r"(?i)minimum memory limit.*memory="):
        in_docker.engine.launch(launch)
    assert launch.name not in {found.name for found in in_docker.engine.containers()}


def test_a_container_over_its_memory_limit_ends_and_the_engine_says_why(
    in_docker: DockerBench,
) -> None:
    far = in_docker.start(memory=32)
    with pytest.raises((ConnectionError, TimeoutError)):
        far.ask("len(bytearray(os.urandom(1) * (200 << 20)))")
    assert in_docker.engine.ended(far.id) == Ended(exit_code=137, oom=True)


# --- volumes -------------------------------------------------------------------------------------


def test_a_named_volume_has_our_label_and_no_other(
    need_docker: docker.DockerClient, in_docker: DockerBench
) -> None:
    name = in_docker.volume()
    in_docker.start(mounts=(VolumeMount("/kept", Volume.from_name(name)),))
    volume = need_docker.volumes.get(VOLUME_PREFIX + name)
    assert volume.attrs["Labels"] == {ROLE: "volume"}


def test_a_volume_hides_what_the_image_has_there(in_docker: DockerBench) -> None:
    far = in_docker.start(mounts=(VolumeMount("/etc/apt", Volume.ephemeral()),))
    assert far.ask("os.listdir('/etc/apt')") == []


def test_a_volume_that_must_be_there_and_is_not_is_not_made(
    need_docker: docker.DockerClient, in_docker: DockerBench
) -> None:
    volume = Volume.from_name(f"test-{secrets.token_hex(6)}", create_if_missing=False)
    with pytest.raises(EngineError, match="does not exist"):
        in_docker.engine.launch(in_docker.describe(mounts=(VolumeMount("/weights", volume),)))
    with pytest.raises(docker.errors.NotFound):
        need_docker.volumes.get(f"{VOLUME_PREFIX}{volume.name}")


def test_a_folder_that_went_away_is_named_with_the_mend(
    in_docker: DockerBench, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    volume = Volume.from_path(tmp_path / "data")
    (tmp_path / "data").rmdir()
    with pytest.raises(EngineError, match=rf"{tmp_path}/data.*does not see this machine's files"):
        in_docker.engine.launch(in_docker.describe(mounts=(VolumeMount("/data", volume),)))


def test_an_ephemeral_volume_goes_with_its_container(
    need_docker: docker.DockerClient, in_docker: DockerBench
) -> None:
    far = in_docker.start(mounts=(VolumeMount("/scratch", Volume.ephemeral()),))
    (volume,) = (
        mount["Name"]
        for mount in need_docker.api.inspect_container(far.id)["Mounts"]
        if mount["Destination"] == "/scratch"
    )
    far.hang_up()
    assert in_docker.engine.ended(far.id) == Ended(0)
    in_docker.engine.discard(far.id)
    in_docker.engine.close()  # which waits for it
    with pytest.raises(docker.errors.NotFound):
        need_docker.volumes.get(volume)


# --- the end -------------------------------------------------------------------------------------


def test_docker_stop_is_polite_first_and_waits_as_long_as_was_asked(
    need_docker: docker.DockerClient, in_docker: DockerBench
) -> None:
    polite = in_docker.start(stop_timeout=60)
    polite.ask("signal.signal(signal.SIGTERM, lambda *_: os._exit(15)) and None")
    need_docker.containers.get(polite.id).stop()
    assert in_docker.engine.ended(polite.id) == Ended(15)
    deaf = in_docker.start(stop_timeout=1)
    need_docker.containers.get(deaf.id).stop()
    assert in_docker.engine.ended(deaf.id) == Ended(137)


# --- what does not start -------------------------------------------------------------------------


def test_an_image_without_python_is_refused_by_name_and_leaves_nothing(
    in_docker: DockerBench,
) -> None:
    image = Image.debian_slim().run_commands('rm "$(command -v python3)"')
    launch = in_docker.describe(in_docker.image(image))
    with pytest.raises(EngineError, match="no python3 on its path"):
        in_docker.engine.launch(launch)
    assert launch.name not in {found.name for found in in_docker.engine.containers()}


# --- looking on ----------------------------------------------------------------------------------


def test_containers_of_others_are_not_found(
    need_docker: docker.DockerClient, in_docker: DockerBench
) -> None:
    far = in_docker.start()
    foreign = need_docker.containers.run(
        in_docker.base, ["sleep", "1000"], detach=True, auto_remove=True
    )
    try:
        found = {one.id for one in in_docker.engine.containers()}
        assert far.id in found
        assert foreign.id not in found
    finally:
        foreign.remove(force=True)


def test_usage_tells_the_limit_of_memory(in_docker: DockerBench) -> None:
    far = in_docker.start(memory=256)
    assert far.ask("globals().__setitem__('held', os.urandom(64 << 20))") is None
    used = in_docker.engine.usage(far.id)
    assert used is not None
    assert 64 << 20 < used.memory < 256 << 20
    assert used.memory_limit == 256 << 20


def test_usage_of_a_container_that_another_engine_object_started_is_known(
    in_docker: DockerBench,
) -> None:
    far = in_docker.start()
    with contextlib.closing(DockerEngine()) as other:
        used = other.usage(far.id)
    assert used is not None
    assert used.memory > 0
    assert used.memory_limit is None
