"""Errors of engines on another machine, each with its fix, after which what is correct works."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import socketserver
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import answering
import docker
import psutil
import pytest
from conftest import BASE_IMAGE, missing
from engine.far_work import docker_app, refusal
from engine.test_other_python import EVERYTHING, OTHERS, Notebook
from far_machine import FarMachine
from kernel.harness import wait_for
from unit.test_old_engines import Old

import lifecycle_magic as lm
from lifecycle_magic.container.endings import Ending, EndKind
from lifecycle_magic.engines.choose import docker_engine
from lifecycle_magic.engines.process import interpreters
from lifecycle_magic.exception import (
    BuildError,
    EngineError,
    EngineUnavailable,
    Error,
    InvalidError,
)
from lifecycle_magic.session import session

pytestmark = [
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.xdist_group("far"),
    pytest.mark.usefixtures("far"),
]


# --- the way there --------------------------------------------------------------------------------


def test_a_folder_of_this_machine_is_refused_with_the_fix(
    machine: FarMachine, tmp_path: Path
) -> None:
    app = lm.App("folders", engine=machine.tcp)

    @app.cls(volumes={"/data": lm.Volume.from_path(tmp_path)})
    class Model:
        @lm.method()
        def run(self) -> int:
            return 1

    with pytest.raises(InvalidError, match=r"/data is the folder .*does not see.*add_local_dir"):
        Model().run.remote()


def test_ssh_errors_are_in_its_own_words_with_a_fix(machine: FarMachine) -> None:
    told = refusal("ssh://me@no-such-host.invalid")
    assert told.count("Could not resolve hostname") == 1
    assert "Fix: check the host's name" in told
    told = refusal(f"ssh://me@{machine.host}:1")
    assert told.count("Connection refused") == 1
    assert "Fix: check the port" in told
    for silent in (f"ssh://me@{machine.silent}", f"tcp://{machine.silent}:2376"):
        told = refusal(silent)
        assert told.count("timed out") == 1
        assert "machine is on and reachable" in told
    known = machine.folder / "known"
    right = known.read_text()
    other = (machine.folder / "user.pub").read_text()
    try:
        for text in ("", f"{machine.host} {other}"):  # an unknown key, and another one
            known.write_text(text)
            told = refusal(machine.ssh)
            assert "Host key verification failed" in told
            assert "Fix: " in told
            assert known.read_text() == text  # nothing was answered for the user
    finally:
        known.write_text(right)
    authorized = machine.folder / "authorized"
    keys = authorized.read_text()
    try:
        authorized.write_text("")
        told = refusal(machine.ssh)
        assert "Permission denied" in told
        assert "Fix: add your public key" in told
    finally:
        authorized.write_text(keys)
    told = refusal(f"ssh://root@{machine.host}/nowhere/docker.sock")
    assert "no Docker engine answers at" in told
    with docker_app(machine.ssh) as one:
        assert one.remote() == 1


def test_tls_errors_name_the_certificate_or_the_fix(
    machine: FarMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOCKER_CERT_PATH")
    monkeypatch.delenv("DOCKER_TLS_VERIFY")
    assert "without TLS" in refusal(machine.tcp)
    monkeypatch.setenv("DOCKER_HOST", machine.tcp)
    with pytest.raises(EngineUnavailable, match=r"DOCKER_HOST can't be used.*without TLS"):
        docker_engine("auto")
    monkeypatch.delenv("DOCKER_HOST")
    for name in ("ca", "cert", "key"):
        (tmp_path / f"{name}.pem").write_bytes((machine.certificates / f"{name}.pem").read_bytes())
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", "other-key", "-out", "ca.pem", "-subj", "/CN=another authority"),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    assert "certificate verify failed" in refusal(f"tcp://{machine.host}:2376").lower()
    monkeypatch.setenv("DOCKER_CERT_PATH", str(machine.certificates))
    with docker_app(machine.tcp) as one:
        assert one.remote() == 1


def test_what_the_engine_there_lacks_is_named_and_the_next_class_works(
    machine: FarMachine,
) -> None:
    app = lm.App("lacking", engine=machine.tcp)

    def number() -> int:
        return 1

    registry = lm.Image.from_registry("127.0.0.1:9/none/such:1")  # nobody listens there
    with pytest.raises(BuildError, match=r"127\.0\.0\.1:9/none/such:1.*connection refused"):
        app.function(name="unknown", image=registry)(number).remote()
    with pytest.raises(EngineError, match=r"(?i)gpu"):
        app.function(name="gpu", gpu=1)(number).remote()
    assert app.function(name="plain")(number).remote() == 1
    app.stop()


def test_a_name_that_is_no_engine_is_refused_at_the_declaration() -> None:
    with pytest.raises(InvalidError, match=r"engine='gpubox' must be .*docker context ls"):
        lm.App("wrong", engine="gpubox")


def test_ssh_that_connects_and_opens_no_socket_says_what_to_check(machine: FarMachine) -> None:
    before, path = _ssh(machine), machine.socket
    for url in (
        f"ssh://nobody@{machine.host}{path}",  # no right to use it
        f"ssh://daemon@{machine.host}{path}",  # no right to forward
        f"ssh://root@{machine.host}/no/docker.sock",  # no such socket
    ):
        told = refusal(url)
        assert told.count("open failed: connect failed") == 1
        assert "Connection aborted" not in told
        assert "Fix: ssh connects, and no engine's socket opens there: " in told
        assert "usermod -aG docker" in told
        assert "AllowStreamLocalForwarding" in told
    assert _ssh(machine) == before


def test_a_machine_behind_another_one_is_reached_by_its_name_in_the_configuration(
    machine: FarMachine,
) -> None:
    with docker_app(f"ssh://root@behind{machine.socket}") as one:
        assert one.remote() == 1
        assert len(machine.containers()) == 1
        assert len(_ssh(machine)) == 2
    session.close("its connections are to end")
    wait_for(lambda: not _ssh(machine), "the end of both ssh processes")


def _ssh(machine: FarMachine) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name() == "ssh" and f"{machine.folder}/ssh_config" in process.cmdline():
                found.append(process)
    return found


def test_an_engine_there_that_is_too_old_is_refused_with_both_versions(machine: FarMachine) -> None:
    path = machine.folder / "old.sock"
    with socketserver.ThreadingUnixStreamServer(str(path), Old) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            told = refusal(f"ssh://root@{machine.host}{path}")
        finally:
            server.shutdown()
            thread.join()
            path.unlink()
    assert "is too old: it is Docker 18.09.1 with version 1.39 of the API, and 1.40" in told


# --- images ---------------------------------------------------------------------------------------


def test_an_image_for_another_platform_is_refused_there_before_it_is_built_on(
    machine: FarMachine,
) -> None:
    with contextlib.closing(machine.client()) as client:
        here = client.version()["Arch"]
        other = "arm64" if here == "amd64" else "amd64"
        client.images.load(_image(f"test/{other}:1", other))
    image = lm.Image.from_registry(f"test/{other}:1").run_commands("no-such-command")
    refused = pytest.raises(BuildError, match=rf"linux/{other}, and this engine runs linux/{here}")
    with docker_app(machine.ssh, image) as one, refused:
        one.remote()


def _image(name: str, arch: str) -> bytes:
    """Return an image, as ``docker save`` does, with a ``python3`` of another architecture."""
    layer = _tar({"usr/bin/python3": b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\xf3\0" + bytes(44)})
    diff = hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": arch,
        "os": "linux",
        "config": {"Env": ["PATH=/usr/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {"config.json": json.dumps(config), "manifest.json": json.dumps(manifest)}
    return _tar({**{key: text.encode() for key, text in files.items()}, "layer.tar": layer})


def _tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


REFUSING = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:5000"}}
auth: {{silly: {{realm: the-realm, service: the-service}}}}
"""


def test_a_registry_that_refuses_is_named_with_the_fix(machine: FarMachine) -> None:
    if shutil.which("docker-registry") is None:
        missing("docker-registry is not installed")
    config = machine.folder / "refusing.yml"
    config.write_text(REFUSING.format(folder=machine.folder / "refusing"))
    with machine.running("refusing", "docker-registry", "serve", str(config)):
        wait_for(lambda: machine.listens("127.0.0.1", 5000), "the registry there")
        refused = pytest.raises(BuildError, match=r"127\.0\.0\.1:5000/me/mine:1.*docker login")
        image = lm.Image.from_registry("127.0.0.1:5000/me/mine:1")
        with docker_app(machine.tcp, image) as one, refused:
            one.remote()
    with docker_app(machine.tcp) as one:
        assert one.remote() == 1


def test_another_python_there_gets_the_class_by_source(machine: FarMachine) -> None:
    version = next((one for one in OTHERS if interpreters.find(one) is not None), None)
    if version is None:
        pytest.skip("there is no other Python on this machine")
    before = dict(vars(sys.modules["__main__"]))
    app = lm.App("other-python-there", engine=machine.ssh)
    image = lm.Image.from_registry(BASE_IMAGE, add_python=version)
    with app.run():
        notebook = Notebook(app, image)
        model = notebook.declare(EVERYTHING)()
        names = notebook.space
        assert model.version.remote() == version
        assert model.all.remote(names["Point"](1)) == names["everything"](names["Point"](1))
    for name in vars(sys.modules["__main__"]).keys() - before.keys():
        del vars(sys.modules["__main__"])[name]


# --- a full disk ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_engine(machine: FarMachine, need_docker: docker.DockerClient) -> Iterator[str]:
    """The socket of a second engine there, whose disk has 300 MiB; the base image takes half."""
    folder = machine.folder / "small"
    folder.mkdir()
    command = (
        "for hidden in /tmp /etc/docker; do mount -t tmpfs tmpfs $hidden || exit; done; "
        f"mount -t tmpfs -o size=300M tmpfs {folder} && "
        f"exec dockerd --data-root={folder}/data --exec-root={machine.folder}/small-exec "
        f"--pidfile={machine.folder}/small-pid --host=unix://{machine.folder}/small.sock "
        "--bridge=none --iptables=false --ip6tables=false"  # in a network of its own
    )
    path = f"{machine.folder}/small.sock"
    with machine.running("small", "unshare", "--net", "--mount", "sh", "-c", command):
        wait_for(lambda: answering.pings(path), "the engine with the small disk")
        with contextlib.closing(docker.DockerClient(base_url=f"unix://{path}")) as client:
            client.images.load(need_docker.images.get(BASE_IMAGE).save(named=BASE_IMAGE))
        yield path


@pytest.fixture
def small(machine: FarMachine, small_engine: str) -> Iterator[str]:
    """The address of that engine, on which nothing stays."""
    yield f"ssh://root@{machine.host}{small_engine}"
    session.close("the test is over")
    with contextlib.closing(docker.DockerClient(base_url=f"unix://{small_engine}")) as client:
        wait_for(lambda: not client.api.containers(all=True), "the removal of containers there")
    # A relay asks an engine that ends for a minute whether it comes back.
    wait_for(lambda: not _relays_to(small_engine), "the end of the relays to it")


def _relays_to(engine: str) -> list[int]:
    found = []
    for one in psutil.process_iter(["cmdline"]):
        command = " ".join(one.info["cmdline"] or ())
        if "engines.relay.relay" in command and engine in command:
            found.append(one.pid)
    return found


FILL = "head -c 250M /dev/zero > /large"


def test_a_disk_that_becomes_full_in_a_build_fails_the_step_and_the_next_class_works(
    small: str, tmp_path: Path
) -> None:
    app = lm.App("full-build", engine=small)
    (tmp_path / "large").write_bytes(bytes(160 << 20))
    image = lm.Image.debian_slim()
    secret = lm.Secret.from_dict({"TOKEN": "xyz-secret"})
    ways = {
        "command": image.run_commands(FILL),
        "file": image.add_local_file(tmp_path / "large", "/large"),
        "secret": image.run_commands(FILL, secrets=[secret]),
    }

    @app.cls(name="hook")
    class Hook:
        @lm.build()
        def fill(self) -> None:
            Path("/large").write_bytes(bytes(100 << 20))  # what is kept is a copy

        @lm.method()
        def get(self) -> int:
            return 1

    calls = [app.function(name=name, image=one)(number).remote for name, one in ways.items()]
    for call in (*calls, Hook().get.remote):
        with pytest.raises(Error, match=r"(?is)no space left on device.*Fix: .*system prune"):
            call()
        with docker_app(small) as one:
            assert one.remote() == 1
    app.stop()


def number() -> int:
    return 1


def test_a_disk_that_is_full_refuses_starts_and_spares_what_runs(small: str) -> None:
    app = lm.App("full-start", engine=small)

    @app.cls(name="Filling")
    class Filling:
        @lm.method()
        def fill(self) -> str:
            said = ""
            for size in (1 << 20, 1 << 10):
                try:
                    with open(f"/large-{size}", "wb", buffering=0) as file:
                        while True:
                            file.write(bytes(size))
                except OSError as error:
                    said = str(error)
            return said

        @lm.method()
        def get(self) -> int:
            return 1

    filling = Filling()
    assert "No space left" in filling.fill.remote()
    new = lm.Image.debian_slim().run_commands("echo new > /new")
    notes = lm.Volume.from_name("full-notes", create_if_missing=True)
    options: dict[str, dict[str, Any]] = {
        "start": {},
        "build": {"image": new},
        "volume": {"volumes": {"/notes": notes}},
    }
    calls = {name: app.function(name=name, **those)(number) for name, those in options.items()}
    for call in calls.values():
        with pytest.raises(Error, match=r"no space left on device\. Fix: .*docker system prune"):
            call.remote()
    assert filling.get.remote() == 1
    [container] = [one for one in session.current().containers() if one.plan.cls == "Filling"]
    container.end(Ending(EndKind.KILL, "it has filled the disk"), wait=True)
    assert [call.remote() for call in calls.values()] == [1, 1, 1]
    app.stop()
