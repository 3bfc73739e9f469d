"""Engines on another machine: a whole life there, and every end of what leads there.

The other machine is a network namespace with an engine, whose ``/tmp`` is not this one's, and with
an ssh server of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from engine.far_work import FarDiary, address, declare, docker_app, end_engine, relays, restarted
from far_machine import FarMachine, context_named
from kernel.harness import CellFailed, OwnKernel, own_kernel, wait_for

import lifecycle_magic as lm
from lifecycle_magic.engines.choose import docker_engine
from lifecycle_magic.exception import (
    ContainerDied,
    EngineError,
    InvalidError,
)
from lifecycle_magic.host.paths import state_root
from lifecycle_magic.lifecycle.history import History
from lifecycle_magic.session import session

pytestmark = [
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.xdist_group("far"),
    pytest.mark.usefixtures("far"),
]

WAYS = ("tcp", "ssh")


# --- a whole life ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [*WAYS, "context", "socket"])
def test_a_class_lives_there_from_build_to_exit(
    machine: FarMachine,
    diary: FarDiary,
    way: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if way == "context":
        context_named("gpu-box", machine, tmp_path)
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        monkeypatch.delenv("DOCKER_CERT_PATH")
        monkeypatch.delenv("DOCKER_TLS_VERIFY")
    if way == "socket":  # as Docker Desktop's is: a Unix socket here, and no shared file
        monkeypatch.setenv("DOCKER_HOST", f"unix://{machine.socket}")
    named = {"context": "gpu-box", "socket": "docker"}
    engine = named.get(way) or address(machine, way)
    app = lm.App(f"life-{way}", engine=engine)
    volume = lm.Volume.from_name(diary.name, create_if_missing=True)

    @app.cls(volumes={"/notes": volume}, secrets=[lm.Secret.from_dict({"TOKEN": "xyz-secret"})])
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

        @lm.exit()
        def close(self) -> None:
            with open("/notes/diary", "a") as file:
                file.write("exited\n")

    model = Model()
    assert model.read.remote() == ("by the hook", "xyz-secret")
    assert "entering\nreading" in capsys.readouterr().out
    with pytest.raises(KeyError, match="what is not there") as failed:
        model.fail.remote()
    text = "".join(traceback.format_exception(failed.value))
    assert 'raise KeyError("what is not there")' in text
    large = os.urandom(9 << 20)  # more than a window
    assert model.same.remote(large) == large
    assert list(model.square.map(range(30))) == [x * x for x in range(30)]
    assert list(model.numbers.remote_gen(5)) == [0, 1, 2, 3, 4]
    assert model.later.remote(1) == 2
    there = [one.plan.launch.name for one in session.current().containers()]
    assert [f"/{name}" for name in there] == machine.containers()
    with contextlib.closing(machine.client()) as client:
        told = json.dumps(client.api.inspect_container(there[0]))
    assert "xyz-secret" not in told
    app.stop()
    diary.wait("exited")
    session.close("the test looks at the history")
    entry = next(one for one in History(state_root()).entries() if one.container == there[0])
    assert (entry.engine, entry.state) == (engine, "exited")
    assert [hook.hook for hook in entry.hooks] == ["close"]


def test_docker_host_may_name_an_engine_there(
    machine: FarMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", machine.ssh)
    with docker_app("docker") as one:
        assert one.remote() == 1
        assert len(machine.containers()) == 1


def test_classes_of_two_places_call_each_other(machine: FarMachine) -> None:
    app = lm.App("two-places")

    @app.cls(engine="process")
    class Here:
        @lm.method()
        def count(self) -> int:
            return 3

        @lm.method()
        def ask(self) -> int:
            return There().count.remote()

    @app.cls(engine=machine.tcp, block_network=True)
    class There:
        @lm.method()
        def count(self) -> int:
            return 7

        @lm.method()
        def ask(self) -> int:
            return Here().count.remote()

    assert Here().ask.remote() == 7
    assert There().ask.remote() == 3
    app.stop()


def test_local_modules_reach_spares_too(
    machine: FarMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "far_helper.py").write_text("def word():\n    return 'from a module'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    import far_helper  # type: ignore[import-not-found]

    app = lm.App("spares", engine=machine.tcp)

    @app.cls(buffer_containers=1, max_containers=2)
    class Model:
        @lm.method()
        def word(self) -> str:
            return str(far_helper.word())

    assert Model().word.remote() == "from a module"
    service = next(iter(session.current().services.values()))
    wait_for(lambda: any(c.is_connected and c.is_spare for c in service.containers()), "a spare")
    lm_restart = [c for c in service.containers() if not c.is_spare]
    for container in lm_restart:
        with contextlib.closing(machine.client()) as client:
            client.api.kill(container.name)
        container.exited.wait(30)
    assert Model().word.remote() == "from a module"  # by the spare
    app.stop()


def test_a_web_endpoint_is_served_from_there(machine: FarMachine) -> None:
    app = lm.App("web-there", engine=machine.tcp)

    @app.cls()
    class Site:
        @lm.wsgi_app()
        def site(self) -> Callable[..., list[bytes]]:
            def answer(environ: Any, start: Any) -> list[bytes]:
                start("200 OK", [("Content-Type", "text/plain")])
                return [b"hello from there"]

            return answer

    with urllib.request.urlopen(Site().site.get_web_url(), timeout=30) as found:
        assert found.read() == b"hello from there"
    app.stop()


def test_files_of_a_volume_go_to_the_engine_of_its_class(
    machine: FarMachine, diary: FarDiary, tmp_path: Path
) -> None:
    app = lm.App("volumes", engine=machine.ssh)
    volume = lm.Volume.from_name(diary.name, create_if_missing=True)

    @app.cls(volumes={"/notes": volume})
    class Reader:
        @lm.method()
        def read(self) -> str:
            return Path("/notes/word").read_text()

    (tmp_path / "word").write_text("sent ahead")
    with volume.batch_upload() as batch:  # before anything runs there
        batch.put_file(tmp_path / "word", "/word")
    assert Reader().read.remote() == "sent ahead"
    assert b"".join(volume.read_file("word")) == b"sent ahead"
    app.stop()

    @app.cls(volumes={"/notes": volume}, engine="process")
    class Other:
        @lm.method()
        def read(self) -> str:
            return ""

    with pytest.raises(InvalidError, match=r"used by classes on several engines \(process, ssh"):
        volume.listdir("/")


def test_whether_files_are_shared_is_tried(machine: FarMachine) -> None:
    # Both are Unix sockets of this machine; only one engine sees its files.
    for url, way in (
        (f"unix://{machine.socket}", "relay"),
        ("unix:///var/run/docker.sock", "unix"),
    ):
        with contextlib.closing(docker_engine(url)) as engine:
            engine.check()
            assert engine.transport == way


# --- ends -----------------------------------------------------------------------------------------

CELL = """
import lifecycle_magic as lm, os, time
os.environ["JPY_SESSION_NAME"] = {name!r}
app = lm.App("ends", engine={url!r})
volume = lm.Volume.from_name({name!r}, create_if_missing=True)

@app.cls(volumes={{"/notes": volume}}, block_network=True, exit_grace=20, keep={keep})
class Noted:
    @lm.enter()
    def load(self):
        self.calls = 0
        self.note("entered")

    def note(self, event):
        with open("/notes/diary", "a") as file:
            file.write(event + "\\n")

    @lm.method()
    def count(self):
        self.calls += 1
        return self.calls

    @lm.method()
    def hold(self):
        self.note("holding")
        time.sleep(1000)

    @lm.exit()
    def close(self):
        self.note("exiting")
        time.sleep(0.2)
        self.note("exited")

print(Noted().count.remote())
"""


@pytest.fixture
def kernel(machine: FarMachine, tmp_path: Path) -> Iterator[OwnKernel]:
    with own_kernel(tmp_path / "tmp", dict(machine.env)) as found:
        yield found


@pytest.mark.parametrize("way", WAYS)
def test_exit_runs_at_once_when_the_kernel_is_killed(
    machine: FarMachine, kernel: OwnKernel, diary: FarDiary, way: str
) -> None:
    kernel.run(CELL.format(keep=None, url=address(machine, way), name=diary.name), timeout=120)
    cell = kernel.begin("Noted().hold.remote()")
    assert cell
    diary.wait("holding")
    names = machine.containers()
    kernel.kill()
    diary.wait("exited")
    assert diary.events() == ["entered", "holding", "exiting", "exited"]
    wait_for(lambda: machine.containers() == [], "the relay to remove the container")
    session.current().sweep_again()
    wait_for(lambda: entries(names[0]), "the report in the history")
    [entry] = entries(names[0])
    assert entry.state == "exited"
    assert [hook.hook for hook in entry.hooks] == ["close"]


def entries(container: str) -> list[Any]:
    session.current().sweep_again()
    name = container.lstrip("/")
    return [one for one in History(state_root()).entries() if one.container == name]


def test_an_interrupt_ends_the_call_and_the_container_stays(
    machine: FarMachine, kernel: OwnKernel, diary: FarDiary
) -> None:
    kernel.run(CELL.format(keep=None, url=machine.ssh, name=diary.name), timeout=120)
    cell = kernel.begin("Noted().hold.remote()")
    diary.wait("holding")
    kernel.interrupt()
    with pytest.raises(CellFailed, match="KeyboardInterrupt"):
        kernel.outcome(cell)
    assert kernel.run("print(Noted().count.remote())").strip() == "2"
    assert diary.events() == ["entered", "holding"]
    # The end of ssh alone is named.
    cell = kernel.begin("Noted().hold.remote()")
    diary.wait("holding", 2)
    [ssh] = [
        one
        for one in psutil.process_iter()
        if one.name() == "ssh" and any(machine.socket in word for word in one.cmdline())
    ]
    ssh.kill()
    with pytest.raises(CellFailed, match="the ssh connection has ended"):
        kernel.outcome(cell)
    diary.wait("exited")
    assert kernel.run("print(Noted().count.remote())", timeout=120).strip() == "1"
    kernel.run("app.stop()")


@pytest.mark.parametrize("way", WAYS)
def test_without_its_relay_a_call_fails_and_exit_runs(
    machine: FarMachine, kernel: OwnKernel, diary: FarDiary, way: str
) -> None:
    before = {one.pid for one in relays(machine)}
    kernel.run(CELL.format(keep=None, url=address(machine, way), name=diary.name), timeout=120)
    [relay] = [one for one in relays(machine) if one.pid not in before]
    cell = kernel.begin("Noted().hold.remote()")
    diary.wait("holding")
    relay.kill()
    with pytest.raises(CellFailed, match="the relay process has exited") as failed:
        kernel.outcome(cell)
    assert failed.value.name == "ContainerDied"
    diary.wait("exited")
    assert kernel.run("print(Noted().count.remote())", timeout=120).strip() == "1"
    # A kernel that is killed with its relay: the report waits in the container.
    [relay] = [one for one in relays(machine) if one.pid not in before]
    [name] = machine.containers()
    relay.suspend()
    kernel.kill()
    relay.kill()
    diary.wait("exited", 2)
    wait_for(lambda: not machine.containers(ended=False), "the end of the container")
    session.current().sweep_again()
    assert [one.state for one in entries(name)] == ["failed"]
    with docker_app(address(machine, way)) as one:
        assert one.remote() == 1
        wait_for(lambda: [one.state for one in entries(name)] == ["exited"], "the late report")
    [entry] = entries(name)
    assert [hook.hook for hook in entry.hooks] == ["close"]


@pytest.mark.parametrize("way", WAYS)
def test_the_next_kernel_adopts_and_without_the_relay_a_kept_container_ends(
    machine: FarMachine, kernel: OwnKernel, diary: FarDiary, way: str, tmp_path: Path
) -> None:
    cell = CELL.format(keep=600, url=address(machine, way), name=diary.name)
    before = {one.pid for one in relays(machine)}
    assert kernel.run(cell, timeout=120).strip() == "1"
    names = machine.containers()
    kernel.kill()
    with own_kernel(tmp_path / "next", dict(machine.env)) as other:
        edited = cell.replace("+= 1", "+= 10")
        assert other.run(edited, timeout=120).strip() == "11", "its code is the old one"
        assert machine.containers() == names
        assert diary.events() == ["entered"]
        other.run("Noted().count.remote()")
        other.kill()
    with own_kernel(tmp_path / "third", dict(machine.env)) as third:
        # Another state: the new container starts first, and the kept one runs its exit.
        other_state = cell.replace("self.calls = 0", "self.calls = 100")
        assert third.run(other_state, timeout=120).strip() == "101"
        diary.wait("exited")
        assert diary.events() == ["entered", "entered", "exiting", "exited"]
        wait_for(lambda: len(machine.containers()) == 1, "the removal of the former container")
        third.run("app.stop()")
        diary.wait("exited", 2)
        assert third.run(cell, timeout=120).strip() == "1"
        third.kill()
    [left] = machine.containers()
    for one in relays(machine):
        if one.pid not in before:
            one.kill()
    diary.wait("exited", 3)  # no kernel could reach it any more
    wait_for(lambda: entries(left), "its end in the history")
    with contextlib.closing(machine.client()) as client:
        client.api.wait(left.lstrip("/"), timeout=60)
    session.current().engine(address(machine, way))  # removes what such kernels have left
    session.close("a session as short as can be")
    assert machine.containers() == []


def test_a_container_that_is_kept_there_is_listed_and_stopped(
    machine: FarMachine, kernel: OwnKernel, diary: FarDiary
) -> None:
    kernel.run(CELL.format(keep=600, url=machine.tcp, name=diary.name), timeout=120)
    cell = kernel.begin("Noted().hold.remote()")
    assert cell
    diary.wait("holding")
    [name] = [one.lstrip("/") for one in machine.containers()]
    kernel.kill()

    def command(*words: str) -> str:
        words = (sys.executable, "-m", "lifecycle_magic", *words)
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    wait_for(lambda: "finishing a call" in command("ps"), "the kept container in the list")
    assert f"Noted ({name})" in command("doctor")
    stopped = command("stop", "Noted")
    assert "exited" in stopped, stopped
    assert diary.events() == ["entered", "holding", "exiting", "exited"]
    [entry] = entries(name)
    assert (entry.state, entry.why) == ("exited", "lifecycle-magic stop")
    wait_for(lambda: machine.containers() == [], "the relay to remove the container")


CUT_SECONDS = float(os.environ.get("LIFECYCLE_MAGIC_CUTS", 2))
"""How long a short cut lasts; `make soak` takes 20 s, half of the lease."""


@pytest.mark.timeout(180 + 6 * CUT_SECONDS)
@pytest.mark.parametrize("way", WAYS)
def test_a_short_cut_loses_nothing(machine: FarMachine, diary: FarDiary, way: str) -> None:
    app = lm.App("cut", engine=address(machine, way))
    noted = declare(app, diary)()
    assert noted.count.remote() == 1
    data = os.urandom(20 << 20)
    call = noted.same.spawn(data)
    cut(machine)
    assert call.get(timeout=90) == data
    # A map, from its third result on.
    results = noted.same.map(range(400))
    first = [next(results) for _ in range(3)]
    cut(machine)
    assert first + list(results) == list(range(400))
    # A result of which a part is there: the class is far from through with it when it has begun.
    result = noted.large.spawn(50 << 20)
    before = received_bytes(machine)
    wait_for(lambda: received_bytes(machine) > before + (2 << 20), "a part of the result", 30, 0)
    cut(machine)
    after = received_bytes(machine)
    assert result.get(timeout=90) == bytes(50 << 20)
    assert received_bytes(machine) > after  # the cut was in the middle
    assert noted.count.remote() == 2
    app.stop()
    diary.wait("exited")
    assert diary.events() == ["entered", "exited"]


def cut(machine: FarMachine) -> None:
    """Cut the connection for a while."""
    with machine.cut():
        time.sleep(CUT_SECONDS)  # the cut itself: nothing happens that could be waited for


def received_bytes(machine: FarMachine) -> int:
    """Return how many bytes have come from the machine."""
    return int(Path(f"/sys/class/net/{machine.name}/statistics/rx_bytes").read_text())


def test_losses_that_take_a_lease_end_with_exit_there_and_an_error_here(
    machine: FarMachine, kernel: OwnKernel, diary: FarDiary
) -> None:
    """A crash with live-restore, a computer that sleeps, and a cut for ever, in the same 40 s."""
    restarted(machine, signal.SIGTERM, "--live-restore")
    crash_app, cut_app = (lm.App(name, engine=machine.tcp) for name in ("crashed", "cut"))
    crash_diary, sleep_diary = (FarDiary(machine, f"{diary.name}-{n}") for n in ("crash", "sleep"))
    of_crash, of_cut = declare(crash_app, crash_diary)(), declare(cut_app, diary)()
    call = of_crash.hold.spawn()
    crash_diary.wait("holding")
    restarted(machine, signal.SIGKILL, "--live-restore")
    with pytest.raises(ContainerDied):
        call.get(timeout=60)
    assert crash_diary.events() == ["entered", "holding"]  # it lives, and waits for its lease

    call = of_cut.hold.spawn()
    diary.wait("holding")
    awake = {one.pid for one in relays(machine)}
    kernel.run(CELL.format(keep=None, url=machine.ssh, name=sleep_diary.name), timeout=120)
    cell = kernel.begin("Noted().hold.remote()")
    sleep_diary.wait("holding")
    [relay] = [one for one in relays(machine) if one.pid not in awake]
    asleep = [psutil.Process(kernel.pid), relay, *relay.children()]
    for process in asleep:
        process.suspend()
    began = time.monotonic()
    try:
        with machine.cut():
            with pytest.raises(ContainerDied, match=r"nothing was received for 40 s"):
                call.get(timeout=60)
            assert time.monotonic() - began < 46
            for one in (diary, crash_diary, sleep_diary):
                one.wait("exited", timeout=max(1.0, 46 - (time.monotonic() - began)))
    finally:
        for process in asleep:
            process.resume()
    with pytest.raises(CellFailed, match=r"nothing was received for 40 s"):
        kernel.outcome(cell)
    assert kernel.run("print(Noted().count.remote())", timeout=120).strip() == "1"
    kernel.run("app.stop()")
    for app, noted, its in ((cut_app, of_cut, diary), (crash_app, of_crash, crash_diary)):
        assert noted.count.remote() == 1  # another container
        app.stop()
        its.wait("exited", 2)
    wait_for(lambda: machine.containers() == [], "the removal of containers there")
    restarted(machine, signal.SIGTERM)


def test_an_engine_that_stops_politely_lets_exit_run(machine: FarMachine, diary: FarDiary) -> None:
    app = lm.App("stopped", engine=machine.tcp)
    noted = declare(app, diary)()
    assert noted.count.remote() == 1
    call = noted.hold.spawn()
    diary.wait("holding")
    [daemon] = [
        one
        for one in psutil.process_iter()
        if one.name() == "dockerd" and f"--data-root={machine.folder}/data" in one.cmdline()
    ]
    daemon.send_signal(signal.SIGTERM)
    diary.wait("exited")
    with pytest.raises(ContainerDied):
        call.get(timeout=60)
    machine.engine.wait()
    machine.start_engine()
    assert noted.count.remote() == 1
    app.stop()
    diary.wait("exited", 2)


def test_an_engine_that_crashes_loses_no_exit(machine: FarMachine, diary: FarDiary) -> None:
    app = lm.App("crashed", engine=machine.tcp)
    noted = declare(app, diary)()
    assert noted.count.remote() == 1
    call = noted.hold.spawn()
    diary.wait("holding")
    restarted(machine, signal.SIGKILL)
    with pytest.raises(ContainerDied):
        call.get(timeout=60)
    diary.wait("exited")  # when the engine is back
    assert noted.count.remote() == 1
    app.stop()
    diary.wait("exited", 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_map_whose_engine_restarts_fails_with_the_reason_and_the_next_one_works(
    machine: FarMachine, diary: FarDiary, number: signal.Signals
) -> None:
    app = lm.App(f"mapped-{number}", engine=machine.tcp)
    noted = declare(app, diary, max_containers=2)()
    results = noted.pause.map(range(400))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    restarted(machine, number)
    with pytest.raises(ContainerDied, match="while the call was running"):
        list(results)
    assert list(noted.pause.map(range(20))) == list(range(20))
    app.stop()
    wait_for(lambda: not unpaired(diary), "an exit for each enter")


def test_a_container_whose_engine_stops_before_its_start_is_removed_when_it_is_back(
    machine: FarMachine,
) -> None:
    before = {one.pid for one in relays(machine)}
    with docker_app(machine.tcp) as one:
        assert one.remote() == 1
    wait_for(lambda: machine.containers() == [], "the removal of the first container")
    [relay] = [one for one in relays(machine) if one.pid not in before]
    relay.suspend()  # it is asked to start what the kernel has created
    with docker_app(machine.tcp) as one:
        call = one.spawn()
        wait_for(machine.containers, "a container that was created")
        end_engine(machine, signal.SIGTERM)
        relay.resume()
        try:
            with pytest.raises(EngineError, match="Connection refused"):
                call.get(timeout=60)
        finally:
            machine.start_engine()
    wait_for(lambda: machine.containers() == [], "the removal of that container")


def unpaired(diary: FarDiary) -> int:
    return diary.events().count("entered") - diary.events().count("exited")


def test_kernels_on_one_engine_there_leave_each_other_alone(
    machine: FarMachine, kernel: OwnKernel, diary: FarDiary, tmp_path: Path
) -> None:
    others = FarDiary(machine, f"{diary.name}-other")
    kernel.run(CELL.format(keep=None, url=machine.tcp, name=diary.name), timeout=120)
    with own_kernel(tmp_path / "other", dict(machine.env)) as other:
        other.run(CELL.format(keep=None, url=machine.ssh, name=others.name), timeout=120)
        other.kill()
    others.wait("exited")
    engine = session.current().engine(machine.ssh)  # its first use sweeps
    engine.prune(keep=frozenset())
    session.close("the sweep is over then")
    assert diary.events() == ["entered"]
    assert kernel.run("print(Noted().count.remote())").strip() == "2"
    kernel.run("app.stop()")


def test_a_kernel_that_forks_does_not_keep_its_containers_alive(
    machine: FarMachine, kernel: OwnKernel, diary: FarDiary, tmp_path: Path
) -> None:
    kernel.run(CELL.format(keep=None, url=machine.tcp, name=diary.name), timeout=120)
    stay = tmp_path / "stay"
    stay.touch()
    child = f"while os.path.exists({str(stay)!r}):\n        time.sleep(0.05)"
    kernel.run(f"if not os.fork():\n    {child}\n    os._exit(0)")
    kernel.kill()
    diary.wait("exited", timeout=30)  # while the child lives
    stay.unlink()
