"""What every engine promises behind the seam: launching, limits, volumes, dialling home, the end.

What only one of them does is in ``test_docker_engine.py`` and ``test_process_engine.py``.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from engine.bench import Bench, ProcessBench
from kernel.harness import wait_for

from lifecycle_magic.engines.base import LABEL, Ended, VolumeMount
from lifecycle_magic.engines.process.engine import ProcessEngine
from lifecycle_magic.exception import EngineError
from lifecycle_magic.images.image import Image
from lifecycle_magic.volume import Volume

IN_DOCKER = pytest.param("in_docker", marks=pytest.mark.docker)
SANDBOXED = pytest.param("sandboxed", marks=pytest.mark.process)
PLAIN = pytest.param("plain", marks=pytest.mark.process)


@pytest.fixture(params=[IN_DOCKER, SANDBOXED, PLAIN])
def bench(request: pytest.FixtureRequest) -> Bench:
    """Every engine."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Bench)
    return found


@pytest.fixture(params=[IN_DOCKER, SANDBOXED])
def walled(request: pytest.FixtureRequest) -> Bench:
    """Every engine whose containers have a root folder of their own."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Bench)
    return found


@pytest.fixture
def over_tcp(tmp_path: Path) -> Iterator[Bench]:
    """Processes, as they are where no Unix socket can be shared."""
    engine = ProcessEngine(sandbox=False, transport="tcp")
    with closing(ProcessBench(engine, tmp_path)) as bench:
        yield bench


# --- what the guest finds ------------------------------------------------------------------------


def test_what_the_guest_prints_before_it_has_a_log_is_in_the_run_folder(bench: Bench) -> None:
    far = bench.start()
    far.ask("sys.stdout.flush()")
    assert (far.run_dir / "start.log").read_text() == "the guest says something early\n"


def test_the_run_folder_is_writable(bench: Bench) -> None:
    far = bench.start()
    far.ask(f"write({bench.engine.run_path(far.run_dir) + '/report'!r}, 'done')")
    assert (far.run_dir / "report").read_text() == "done"


def test_the_guests_code_is_not_writable(walled: Bench) -> None:
    assert walled.start().ask("os.access('/opt/lifecycle_magic', os.W_OK)") is False


def test_the_container_has_nothing_of_this_environment(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_TEST_TOKEN", "hunter2")
    told = bench.start().ask("repr(dict(os.environ)) + read('/proc/self/environ')")
    assert "hunter2" not in told


def test_a_run_folder_may_lie_deeper_than_a_socket_address_reaches(bench: Bench) -> None:
    deep = bench.folder / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    assert len(str(deep / "sock")) > 107
    assert bench.start(run_dir=deep).ask("1 + 1") == 2


@pytest.mark.parametrize("depth", [0, 2])
def test_the_socket_is_for_this_user_alone(bench: Bench, depth: int) -> None:
    folder = bench.folder.joinpath(*["d" * 60] * depth)
    folder.mkdir(parents=True, exist_ok=True)
    with bench.engine.listen(folder).sock:
        assert (folder / "sock").stat().st_mode & 0o777 == 0o600


@pytest.mark.process
def test_where_no_unix_socket_can_be_shared_the_guest_dials_over_tcp(over_tcp: Bench) -> None:
    far = over_tcp.start()
    assert far.ask("kind") == "tcp"
    assert far.ask("1 + 1") == 2
    assert not (far.run_dir / "sock").exists()


# --- limits --------------------------------------------------------------------------------------


def test_a_blocked_network_leaves_only_the_way_home(walled: Bench) -> None:
    far = walled.start(block_network=True)
    assert far.ask("[name for _, name in socket.if_nameindex()]") == ["lo"]


def test_shared_memory_has_the_size_that_was_asked_for(walled: Bench) -> None:
    size = "(lambda s: s.f_blocks * s.f_frsize)(os.statvfs('/dev/shm'))"
    assert walled.start(shm_size=200).ask(size) == 200 << 20


def test_more_cores_than_there_are_is_capped_and_told(bench: Bench) -> None:
    launch = bench.describe(cpu=1000.0)
    told = bench.engine.review(Image.debian_slim(), launch)
    assert told.refused == ()
    assert any("cpu=1000" in text for text in told.ignored)
    assert bench.launch(launch).ask("1 + 1") == 2


# --- volumes -------------------------------------------------------------------------------------


def test_a_named_volume_outlives_its_container(walled: Bench) -> None:
    mounts = (VolumeMount("/kept", Volume.from_name(walled.volume())),)
    first = walled.start(mounts=mounts)
    first.ask("write('/kept/file', 'kept')")
    walled.engine.kill(first.id)
    assert walled.start(mounts=mounts).ask("read('/kept/file')") == "kept"


def test_a_named_volume_is_shared_by_those_that_run(walled: Bench) -> None:
    mounts = (VolumeMount("/kept", Volume.from_name(walled.volume())),)
    first, second = walled.start(mounts=mounts), walled.start(mounts=mounts)
    first.ask("write('/kept/file', 'seen')")
    assert second.ask("read('/kept/file')") == "seen"


def test_a_volume_that_must_be_there_and_is_not_is_named(walled: Bench) -> None:
    volume = Volume.from_name(f"test-{secrets.token_hex(6)}", create_if_missing=False)
    launch = walled.describe(mounts=(VolumeMount("/weights", volume),))
    with pytest.raises(EngineError, match=f"volume '?{volume.name}'? for /weights does not exist"):
        walled.engine.launch(launch)
    assert volume.name not in {one.name for one in walled.engine.kept()}


def test_a_path_volume_is_the_hosts_folder_itself(walled: Bench, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "in").write_text("from the host")
    far = walled.start(mounts=(VolumeMount("/data", Volume.from_path(tmp_path / "data")),))
    assert far.ask("read('/data/in')") == "from the host"
    far.ask("write('/data/out', 'from the container')")
    assert (tmp_path / "data" / "out").read_text() == "from the container"


def test_an_ephemeral_volume_is_empty_and_its_containers_own(walled: Bench) -> None:
    mounts = (VolumeMount("/scratch", Volume.ephemeral()),)
    far = walled.start(mounts=mounts)
    assert far.ask("os.listdir('/scratch')") == []
    far.ask("write('/scratch/file', 'mine')")
    assert far.ask("read('/scratch/file')") == "mine"
    assert walled.start(mounts=mounts).ask("os.listdir('/scratch')") == []


# --- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 7])
def test_the_exit_code_is_known_and_a_discarded_container_is_removed(
    bench: Bench, code: int
) -> None:
    far = bench.start()
    with pytest.raises(ConnectionError):
        far.ask(f"os._exit({code})")
    assert bench.engine.ended(far.id) == Ended(code)
    bench.engine.discard(far.id)
    wait_for(
        lambda: far.id not in {found.id for found in bench.engine.containers()},
        "the removal of the container",
    )


def test_how_a_container_ended_that_never_was_is_not_known(bench: Bench) -> None:
    assert bench.engine.ended(secrets.token_hex(32)) is None


def test_a_killed_container_is_gone_at_once(bench: Bench) -> None:
    far = bench.start()
    bench.engine.kill(far.id)
    assert far.id not in {found.id for found in bench.engine.containers()}
    assert bench.engine.ended(far.id) == Ended(137)


def test_the_process_of_a_container_lives_as_long_as_the_container(bench: Bench) -> None:
    far = bench.start()
    process = bench.engine.process(far.id)
    assert process is not None
    assert process.alive()
    bench.engine.kill(far.id)
    wait_for(lambda: not process.alive(), "its process has ended")
    assert bench.engine.process(far.id) is None


def test_killing_what_is_gone_is_fine(bench: Bench) -> None:
    far = bench.start()
    far.hang_up()
    bench.engine.kill(far.id)
    bench.engine.kill(far.id)
    bench.engine.kill(secrets.token_hex(32))


# --- what does not start -------------------------------------------------------------------------


def test_an_image_that_is_gone_is_named_with_the_mend(bench: Bench) -> None:
    missing = f"sha256:{secrets.token_hex(32)}" if bench.engine.name == "docker" else "nosuch"
    with pytest.raises(EngineError, match=f"image:? {missing}.*run the cell again") as caught:
        bench.engine.launch(bench.describe(missing))
    assert re.search("(?i)no such image|no longer exists", str(caught.value))


# --- looking on ----------------------------------------------------------------------------------


def test_containers_are_found_with_their_labels(bench: Bench) -> None:
    far = bench.start()
    found = {one.id: one for one in bench.engine.containers()}
    assert found[far.id].name == far.name
    assert found[far.id].running
    assert found[far.id].labels[f"{LABEL}.class"] == "Test"


def test_usage_is_what_the_container_uses_and_none_when_it_is_gone(bench: Bench) -> None:
    far = bench.start()
    first = bench.engine.usage(far.id)
    far.ask("globals().__setitem__('held', os.urandom(64 << 20))")
    far.ask("sum(range(10_000_000))")
    second = bench.engine.usage(far.id)
    assert first is not None
    assert second is not None
    assert second.memory > 64 << 20
    assert second.memory - first.memory >= 60 << 20
    assert second.cpu > 0
    far.hang_up()
    bench.engine.ended(far.id)
    assert bench.engine.usage(far.id) is None
