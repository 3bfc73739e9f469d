"""The process engine for real: environments by uv, instances with and without bubblewrap.

What it promises as every engine does is in ``test_engines.py``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from engine.bench import ProcessBench
from engine.work import wait_for

from lifecycle_magic.engines.base import Ended, StepOutput, VolumeMount
from lifecycle_magic.engines.process import process_table
from lifecycle_magic.engines.process.engine import ProcessEngine
from lifecycle_magic.engines.process.store import Store
from lifecycle_magic.exception import BuildError, EngineError, EngineUnavailable
from lifecycle_magic.host.paths import state_root
from lifecycle_magic.images.image import Image
from lifecycle_magic.volume import Volume

pytestmark = pytest.mark.process

# Of another session and with an empty environment: neither the session nor a marker leads to it.
STRAY = (
    "subprocess.Popen(['/usr/bin/env', '-i', '/bin/sleep', '1000'], "
    "start_new_session=True, stdin=subprocess.DEVNULL).pid"
)


@pytest.fixture(params=["sandboxed", "plain"])
def bench(request: pytest.FixtureRequest) -> ProcessBench:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, ProcessBench)
    return found


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A folder with one wheel, so that no test needs an index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    name = "lmprobe-1.0"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as file:
        file.writestr("lmprobe.py", "ANSWER = 42\n")
        file.writestr(
            f"{name}.dist-info/METADATA", "Metadata-Version: 2.1\nName: lmprobe\nVersion: 1.0\n"
        )
        file.writestr(
            f"{name}.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        file.writestr(f"{name}.dist-info/RECORD", "")
    return folder


def _with_wheel(folder: Path) -> Image:
    return Image.debian_slim().pip_install(
        "lmprobe", find_links=str(folder), extra_options="--no-index"
    )


def _gone(rows: list[process_table.ProcessStat]) -> bool:
    """Whether none of these very processes runs any more."""
    return not [row for row in rows if row.owner().alive()]


# --- starting ----------------------------------------------------------------------------------


def test_an_instance_is_no_descendant_and_no_child_is_left_to_reap(bench: ProcessBench) -> None:
    far = bench.start()
    keeper = bench.record(far).keeper.pid
    above = [keeper]
    while above[-1] > 1:
        row = process_table.read(above[-1])
        assert row is not None
        above.append(row.parent)
    assert os.getpid() not in above
    assert os.getsid(keeper) != os.getsid(0)
    rows = [process_table.read(int(e)) for e in os.listdir("/proc") if e.isdigit()]
    assert not [row for row in rows if row and row.parent == os.getpid() and row.state == "Z"]


def test_a_guest_inherits_no_descriptor(bench: ProcessBench) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    os.set_inheritable(writer, True)
    try:
        far = bench.start()
        links = far.ask("{n: os.readlink('/proc/self/fd/' + n) for n in '012'}")
        # Beside the three and its socket there is the folder that is being listed.
        assert far.ask("len(os.listdir('/proc/self/fd'))") == 5
    finally:
        os.close(reader)
        os.close(writer)
    assert links["0"] == "/dev/null"
    assert links["1"] == links["2"]
    assert links["1"].endswith("start.log")


def test_a_guest_can_be_interrupted_though_the_kernel_ignores_sigint(bench: ProcessBench) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        far = bench.start()
    finally:
        signal.signal(signal.SIGINT, before)
    assert far.ask("signal.getsignal(signal.SIGINT) is signal.default_int_handler")


def test_the_guest_knows_the_kernels_proxies_and_not_even_its_keeper_a_secret(
    bench: ProcessBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "s3cret-of-the-kernel")
    monkeypatch.setenv("NO_PROXY", "localhost,example.invalid")
    far = bench.start()
    env = far.ask("dict(os.environ)")
    assert "s3cret-of-the-kernel" not in json.dumps(env)
    assert env["NO_PROXY"] == "localhost,example.invalid"
    keeper = bench.record(far).keeper.pid
    assert b"s3cret" not in Path(f"/proc/{keeper}/environ").read_bytes()


def test_files_are_private_to_the_user(bench: ProcessBench) -> None:
    far = bench.start()
    assert far.ask("write('mine', '1') or os.stat('mine').st_mode & 0o777") == 0o600


def test_the_environment_is_not_the_hosts(bench: ProcessBench) -> None:
    far = bench.start()
    assert "No module named 'pytest'" in far.fails("__import__('pytest')")
    assert far.ask("list(sys.version_info[:2])") == list(sys.version_info[:2])


def test_cpu_pins_an_instance_to_that_many_cores(bench: ProcessBench) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core only")
    assert bench.start(cpu=1).ask("len(os.sched_getaffinity(0))") == 1


def test_a_name_that_is_taken_is_refused_and_the_first_goes_on(bench: ProcessBench) -> None:
    far = bench.start()
    with pytest.raises(EngineError, match="already"):
        bench.engine.launch(bench.describe(name=far.name, run_dir=bench.run_dir("other")))
    assert far.ask("1 + 1") == 2


# --- ending ------------------------------------------------------------------------------------


def test_a_guest_that_left_leaves_nothing(bench: ProcessBench) -> None:
    far = bench.start()
    rows = process_table.belonging(far.name, bench.record(far).keeper)
    assert rows
    with pytest.raises(ConnectionError):
        far.ask("os._exit(7)")
    bench.engine.ended(far.name)  # waits for it
    assert _gone(rows)
    folder = state_root() / "instances" / far.name
    # Its record goes first, and without one the engine waits for nothing.
    wait_for(lambda: not folder.exists(), "the keeper has removed the folder")


def test_what_a_dying_guest_prints_is_kept_in_its_run_folder(bench: ProcessBench) -> None:
    launch = bench.describe()
    (launch.run_dir / "boot.json").write_text("no json")
    bench.engine.launch(launch)
    ended = bench.engine.ended(launch.name)
    assert ended is not None
    assert ended.exit_code == 1
    assert "JSONDecodeError" in (launch.run_dir / "start.log").read_text()


def test_kill_leaves_no_process_and_no_folder(bench: ProcessBench) -> None:
    far = bench.start()
    far.ask(STRAY)
    keeper = bench.record(far).keeper
    rows = process_table.belonging(far.name, keeper)
    assert len(rows) >= 2
    bench.engine.kill(far.name)
    assert _gone(rows)
    assert not keeper.alive()
    assert not (state_root() / "instances" / far.name).exists()
    assert bench.engine.ended(far.name) == Ended(128 + signal.SIGKILL)


def test_a_guest_that_ends_takes_what_it_started_along(bench: ProcessBench) -> None:
    far = bench.start()
    far.ask(STRAY)
    rows = process_table.belonging(far.name, bench.record(far).keeper)
    bench.end(far)
    assert _gone(rows)


def test_sigterm_to_the_keeper_reaches_the_guest(bench: ProcessBench) -> None:
    far = bench.start()
    far.ask("signal.signal(signal.SIGTERM, lambda *_: os._exit(3)) and None")
    os.kill(bench.record(far).keeper.pid, signal.SIGTERM)
    ended = bench.engine.ended(far.name)
    assert ended is not None
    assert ended.exit_code == 3


def test_a_killed_keeper_does_not_save_the_instance_from_kill(bench: ProcessBench) -> None:
    far = bench.start()
    keeper = bench.record(far).keeper
    rows = process_table.belonging(far.name, keeper)
    os.kill(keeper.pid, signal.SIGKILL)
    assert process_table.wait_gone([keeper], 60)
    assert [found.running for found in bench.engine.containers()] == [False]
    bench.engine.kill(far.name)
    assert _gone(rows)
    assert not (state_root() / "instances" / far.name).exists()


def test_a_sandboxed_guest_outlives_bubblewraps_outer_half(sandboxed: ProcessBench) -> None:
    far = sandboxed.start()
    keeper = sandboxed.record(far).keeper
    rows = process_table.belonging(far.name, keeper)
    outer = next(row for row in rows if row.parent == keeper.pid)
    os.kill(outer.pid, signal.SIGKILL)
    assert process_table.wait_gone([outer.owner()], 60)
    assert far.ask("write('/still', 'there') or read('/still')") == "there"
    sandboxed.end(far)
    assert _gone(rows)


def test_kill_spares_a_process_that_got_the_pid_again(bench: ProcessBench) -> None:
    store = Store(state_root())
    bystander = subprocess.Popen(["/bin/sleep", "1000"])
    try:
        me = process_table.identify(bystander.pid)
        assert me is not None
        earlier = process_table.Owner(me.pid, str(int(me.started) - 1), me.boot)
        folder = store.folder("instances") / "recycled"
        folder.mkdir()
        told = {"pid": earlier.pid, "started": earlier.started, "boot": earlier.boot}
        record = {"name": "recycled", "image": "i", "venv": "v", "run_dir": "/", "keeper": told}
        (folder / "instance.json").write_text(json.dumps(record))
        bench.engine.kill("recycled")
        assert not folder.exists()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_the_folder_goes_though_the_launching_process_was_sigkilled(bench: ProcessBench) -> None:
    script = textwrap.dedent(
        """
        import json, sys
        from pathlib import Path
        from lifecycle_magic.engines.base import Launch
        from lifecycle_magic.engines.process.engine import ProcessEngine
        name, image, run, guest, boxed = sys.argv[1:]
        engine = ProcessEngine(sandbox=boxed == "True")
        run = Path(run)
        listener = engine.listen(run)
        (run / "boot.json").write_text(json.dumps({"address": listener.address}))
        engine.launch(Launch(name, image, run, Path(guest), {}))
        sock, _ = listener.sock.accept()
        print("up", flush=True)
        sys.stdin.read()
        """
    )
    name, boxed = f"k-{os.getpid()}", str(bench.engine.sandboxed)
    arguments = [name, bench.base, str(bench.run_dir(name)), str(bench.guest), boxed]
    launcher = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"up\n"
        record = Store(state_root()).instance(name)
        assert record is not None
        rows = process_table.belonging(name, record.keeper)
        launcher.kill()
    assert process_table.wait_gone([record.keeper], 60)
    assert _gone(rows)
    assert not (state_root() / "instances" / name).exists()


# --- looking -----------------------------------------------------------------------------------


def test_another_process_sees_the_instance_with_its_labels(bench: ProcessBench) -> None:
    far = bench.start(labels={"lifecycle-magic.class": "Model"})
    script = (
        "from lifecycle_magic.engines.process.engine import ProcessEngine\n"
        "for one in ProcessEngine().containers(): print(one.name, one.running, dict(one.labels))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert told.stdout == f"{far.name} True {{'lifecycle-magic.class': 'Model'}}\n"


# --- files -------------------------------------------------------------------------------------


def test_a_file_at_an_absolute_path_is_private_and_kept_by_commit(sandboxed: ProcessBench) -> None:
    far = sandboxed.start()
    far.ask("write('/weights/model', 'w') or write('/tmp/note', 'n') or write('own', 'o')")
    other = sandboxed.start()
    assert other.ask("os.path.exists('/weights')") is False
    assert not Path("/weights").exists()
    kept = sandboxed.engine.commit(far.name, "kept-sandboxed")
    sandboxed.end(far)
    again = sandboxed.start(kept)
    assert again.ask("[read('/weights/model'), read('/tmp/note'), read('own')]") == ["w", "n", "o"]
    again.ask("write('/weights/model', 'changed')")
    assert sandboxed.start(kept).ask("read('/weights/model')") == "w"


def test_the_working_folder_and_home_are_private_and_kept_by_commit(plain: ProcessBench) -> None:
    far = plain.start()
    far.ask("write('own', 'o') or write(os.path.expanduser('~/.cache/x'), 'x')")
    kept = plain.engine.commit(far.name, "kept-plain")
    assert plain.start().ask("os.listdir('.')") == ["tmp"]
    plain.end(far)
    again = plain.start(kept)
    assert again.ask("[read('own'), read(os.path.expanduser('~/.cache/x'))]") == ["o", "x"]


def test_a_commit_holds_no_environment_volume_or_run_folder(sandboxed: ProcessBench) -> None:
    mounts = (VolumeMount("/data", Volume.from_name("not-kept")),)
    far = sandboxed.start(mounts=mounts)
    far.ask("write('/data/x', 'x') or write('/run/lifecycle/y', 'y')")
    sandboxed.engine.commit(far.name, "kept-bare")
    root = state_root() / "images" / "kept-bare"
    assert [path for path in root.rglob("*") if path.is_file()] == [root / "image.json"]
    assert json.loads((root / "image.json").read_text())["env"] == {}


def test_system_folders_can_be_read_and_not_written(sandboxed: ProcessBench) -> None:
    far = sandboxed.start()
    assert far.ask("os.path.exists('/etc/passwd')")
    for path in ("/usr/x", "/etc/x", "/opt/venv/x", "/opt/lifecycle_magic/x"):
        assert "Read-only file system" in far.fails(f"write({path!r}, '')")


def test_the_hosts_home_and_processes_are_out_of_sight(sandboxed: ProcessBench) -> None:
    far = sandboxed.start()
    assert far.ask("os.getpid()") == 1
    assert far.ask(f"os.path.exists({str(state_root())!r})") is False
    assert far.ask("sorted(int(n) for n in os.listdir('/proc') if n.isdigit())") == [1]


def test_a_named_volume_is_a_folder_of_the_state_root(sandboxed: ProcessBench) -> None:
    name = sandboxed.volume()
    far = sandboxed.start(mounts=(VolumeMount("/weights", Volume.from_name(name)),))
    far.ask("write('/weights/x', 'seen')")
    sandboxed.end(far)
    assert (state_root() / "volumes" / name / "x").read_text() == "seen"


def test_volumes_of_every_kind_mount_beside_each_other(sandboxed: ProcessBench) -> None:
    folder = sandboxed.folder / "data"
    folder.mkdir()
    mounts = (
        VolumeMount("/data", Volume.from_path(folder)),
        VolumeMount("/weights", Volume.from_name(sandboxed.volume())),
        VolumeMount("/scratch", Volume.ephemeral()),
    )
    far = sandboxed.start(mounts=mounts)
    for path in ("/data", "/weights", "/scratch"):
        far.ask(f"write({path + '/x'!r}, 'seen')")
    assert (folder / "x").read_text() == "seen"
    other = sandboxed.start(mounts=mounts)
    assert other.ask("read('/weights/x')") == "seen"
    assert other.ask("os.listdir('/scratch')") == []


def test_a_volume_without_a_sandbox_mounts_only_at_its_own_path(plain: ProcessBench) -> None:
    folder = plain.folder / "data"
    folder.mkdir()
    far = plain.start(mounts=(VolumeMount(str(folder), Volume.from_path(folder)),))
    far.ask(f"write({str(folder / 'x')!r}, 'seen')")
    assert (folder / "x").read_text() == "seen"
    mount = VolumeMount("/data", Volume.from_path(folder))
    with pytest.raises(EngineError, match=f"{folder}.*bubblewrap.*Docker"):
        plain.engine.launch(plain.describe(mounts=(mount,)))


def test_a_blocked_network_leaves_the_way_home_open(sandboxed: ProcessBench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        dial = f"socket.create_connection(('127.0.0.1', {server.getsockname()[1]})).close()"
        open_ = sandboxed.start()
        assert open_.ask(dial) is None
        blocked = sandboxed.start(block_network=True)
        assert "refused" in blocked.fails(dial) or "unreachable" in blocked.fails(dial)


# --- images ------------------------------------------------------------------------------------


def test_an_image_has_its_packages_variables_files_and_folder(
    bench: ProcessBench, wheel: Path
) -> None:
    (bench.folder / "local.txt").write_text("from here")
    image = (
        _with_wheel(wheel)
        .env({"COLOUR": "blue"})
        .workdir("/work")
        .add_local_file(bench.folder / "local.txt", "/work/local.txt")
        .run_commands('echo "$COLOUR $SIZE" > made.txt', env={"SIZE": "big"})
    )
    steps: list[StepOutput] = []
    key = image.key(bench.engine.base_id(image))
    assert bench.engine.find(key) is None
    assert bench.engine.build(image, key, steps.append) == key
    assert bench.engine.find(key) == key
    far = bench.start(key)
    assert far.ask("__import__('lmprobe').ANSWER") == 42
    assert far.ask("[os.environ['COLOUR'], os.environ.get('SIZE')]") == ["blue", None]
    assert far.ask("[read('local.txt'), read('made.txt')]") == ["from here", "blue big\n"]
    assert {step.of for step in steps} == {6}
    assert [step.step for step in steps if step.status == "done"] == [1, 2, 3, 4, 5, 6]
    if bench.engine.sandboxed:
        assert far.ask("os.getcwd()") == "/work"


def test_a_command_may_install_into_the_environment(bench: ProcessBench, wheel: Path) -> None:
    source = bench.folder / "wheels-in-image"
    command = "python -m pip install --no-index --find-links /work/wheels lmprobe"
    if not bench.engine.sandboxed:
        command = command.replace("/work/wheels", "wheels")
    image = Image.debian_slim().workdir("/work").add_local_dir(wheel, "/work/wheels")
    assert not source.exists()
    far = bench.start(bench.image(image.run_commands(command)))
    assert far.ask("__import__('lmprobe').ANSWER") == 42


def test_a_failing_step_is_told_with_its_command_code_and_last_lines(bench: ProcessBench) -> None:
    command = "seq 100; echo it broke >&2; exit 9"
    image = Image.debian_slim().run_commands(command)
    steps: list[StepOutput] = []
    with pytest.raises(BuildError) as caught:
        bench.engine.build(image, "fails", steps.append)
    told = str(caught.value)
    assert command in told
    assert "exit code 9" in told
    assert "it broke" in told
    assert told.splitlines().count("50") == 0
    assert steps[-1].status == "failed"
    assert bench.engine.find("fails") is None
    assert not list((state_root() / "images").glob(".making*"))


def test_a_package_that_does_not_exist_is_named(bench: ProcessBench, tmp_path: Path) -> None:
    image = Image.debian_slim().pip_install(
        "no-such-thing-xyz", find_links=str(tmp_path), extra_options="--no-index"
    )
    with pytest.raises(BuildError, match="no-such-thing-xyz"):
        bench.engine.build(image, "nopackage", lambda step: None)


def test_a_crashed_build_leaves_nothing_that_is_found_and_prune_removes_it(
    bench: ProcessBench,
) -> None:
    script = textwrap.dedent(
        """
        import sys
        from lifecycle_magic.engines.process.engine import ProcessEngine
        from lifecycle_magic.images.image import Image
        image = Image.debian_slim().run_commands("echo begun; exec sleep 1000")
        tell = lambda step: step.text.strip() == "begun" and print("begun", flush=True)
        ProcessEngine(sandbox=sys.argv[1] == "True").build(image, "crashed", tell)
        """
    )
    builder = subprocess.Popen(
        [sys.executable, "-c", script, str(bench.engine.sandboxed)], stdout=subprocess.PIPE
    )
    with builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == b"begun\n"
        below = process_table.belonging("nobody", process_table.identify(builder.pid))  # type: ignore[arg-type]
        builder.kill()
    assert bench.engine.find("crashed") is None
    if not bench.engine.sandboxed:
        process_table.kill_all(below)
    removed = bench.engine.prune(keep=frozenset(Store(state_root()).images()))
    assert [text for text in removed if "leftover images" in text]
    assert [text for text in removed if "environment" in text]
    assert not list((state_root() / "images").glob(".making*"))


def test_pruning_the_parent_leaves_the_child_working(bench: ProcessBench, wheel: Path) -> None:
    parent = bench.image(_with_wheel(wheel))
    far = bench.start(parent)
    child = bench.engine.commit(far.name, "child")
    bench.end(far)
    keep = frozenset(Store(state_root()).images()) - {parent}
    assert f"image {parent}" in bench.engine.prune(keep=keep)
    assert bench.engine.find(parent) is None
    assert bench.start(child).ask("__import__('lmprobe').ANSWER") == 42


def test_building_again_under_a_key_replaces_the_image(bench: ProcessBench) -> None:
    for colour in ("red", "blue"):
        bench.engine.build(Image.debian_slim().env({"COLOUR": colour}), "again", lambda step: None)
    assert bench.start("again").ask("os.environ['COLOUR']") == "blue"


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Image.from_registry("debian:12"), "from_registry"),
        (lambda: Image.debian_slim().apt_install("git"), "apt_install"),
    ],
)
def test_what_needs_docker_is_refused_by_name(
    bench: ProcessBench, make: Callable[[], Image], named: str
) -> None:
    (refused,) = bench.engine.review(make()).refused
    assert named in refused
    assert "start Docker Engine" in refused
    with pytest.raises(EngineError, match=named):
        bench.engine.base_id(make())


def test_what_needs_a_sandbox_is_refused_by_name_without_one(plain: ProcessBench) -> None:
    image = Image.debian_slim().add_local_dir(plain.folder, "/data")
    launch = plain.describe(
        block_network=True, mounts=(VolumeMount("/weights", Volume.from_name("weights")),)
    )
    refused = plain.engine.review(image, launch).refused
    assert [text.split("(")[0].split()[0] for text in refused] == [
        "add_local_dir",
        "a",
        "block_network=True",
    ]
    assert all("bubblewrap" in text and "Docker Engine" in text for text in refused)


def test_what_only_bounds_a_container_is_told_and_goes_on(bench: ProcessBench) -> None:
    launch = bench.describe(memory=512, cpu=0.5)
    honoured = bench.engine.review(Image.debian_slim(), launch)
    assert honoured.refused == ()
    assert [text.split(":")[0] for text in honoured.ignored] == ["memory=512", "cpu=0.5"]


def test_check_says_what_answers(bench: ProcessBench) -> None:
    told = bench.engine.check()
    assert "uv" in told
    assert ("bubblewrap" in told) is bench.engine.sandboxed


def test_a_sandbox_that_was_insisted_on_and_is_missing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineUnavailable, match="install bubblewrap"):
        ProcessEngine(sandbox=True).check()
