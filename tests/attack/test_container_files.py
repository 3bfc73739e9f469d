"""What code in a container writes into its run folder hurts nobody but that container."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine.work import wait_for

import lifecycle_magic as lm
from lifecycle_magic.container.record import ContainerRecord, discard
from lifecycle_magic.engines.process.keeper import _write_exit, remove_tree
from lifecycle_magic.engines.process.store import InstanceRecord, Store
from lifecycle_magic.engines.process.store import write as store_write
from lifecycle_magic.exception import ContainerDied
from lifecycle_magic.guest import files
from lifecycle_magic.guest.container_log import MAX_BYTES, ContainerLog
from lifecycle_magic.host import run_files, temporary_names
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.lifecycle.history import History, HistoryEntry
from lifecycle_magic.lifecycle.report import Report
from lifecycle_magic.session import session
from lifecycle_magic.ui import machine_checks
from lifecycle_magic.ui.panel import history_text, snapshot

DEAD = Owner(1, "never", "another boot")
GOOD = {"container": "lm-x", "orderly": True, "entered": True, "why": "the kernel is gone"}


HOOK = {"hook": "close", "seconds": 0.1, "error": None}


@pytest.fixture(autouse=True)
def removed(tmp_path: Path) -> Iterator[None]:
    """Remove what the test made: pytest itself fails at a folder that is too deep, runs later."""
    yield
    subprocess.run(["rm", "-rf", tmp_path], check=True)


def deep_folder(path: Path, levels: int = 1200) -> None:
    """Make a folder that is deeper than Python may recurse."""
    path.mkdir()
    here = os.open(path, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


def large_file(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)  # a hole: nothing is written


SPOILED: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "secret": lambda path: path.symlink_to("/etc/passwd"),
    "folder": deep_folder,
    "empty": lambda path: path.touch(),
    "object": lambda path: path.write_text("{}"),
    "list": lambda path: path.write_text("[1]"),
    "garbage": lambda path: path.write_bytes(bytes(range(256))),
    "deep": lambda path: path.write_text("[" * 100_000),
    "deep object": lambda path: path.write_text('{"a":' * 100_000),
    "large": lambda path: large_file(path),
    "wrong types": lambda path: path.write_text(json.dumps(GOOD | {"hooks": 7, "began": "x"})),
    "late": lambda path: path.write_text(json.dumps(GOOD | {"ended": 1e300})),
    "no number": lambda path: path.write_text('{"container":"x","ended":NaN}'),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_report_that_is_none_is_read_as_none(kind: str, tmp_path: Path) -> None:
    SPOILED[kind](tmp_path / "report.json")
    assert Report.from_run_folder(tmp_path) is None
    remove_tree(str(tmp_path))
    assert not tmp_path.exists()


@pytest.mark.parametrize(
    "name", ["SIGNOTHING", "SIGRTMIN+99", "signal 700", "\ud800", ""], ids=range(5)
)
def test_any_name_of_a_signal_can_be_told(name: str) -> None:
    report = Report.read(GOOD | {"signal": name, "orderly": False, "exit_code": 1})
    report.summary().encode()


def test_lone_surrogates_and_escapes_are_shown_as_text(tmp_path: Path) -> None:
    report = Report.read(GOOD | {"why": "\ud800 \x1b[31m", "tail": "\x1b]0;x\x07"})
    History(tmp_path).add(HistoryEntry.from_report("s", "Mo\x1b[31mdel", "docker", report))
    [entry] = History(tmp_path).entries()
    shown = history_text.history([entry], 1)
    shown.encode()
    assert "\x1b" not in shown
    assert "Model" in shown


def test_a_class_name_with_escapes_reaches_no_terminal(tmp_path: Path) -> None:
    name = "Mo\x1b]0;x\x07\x1b[31mdel"
    report = Report.read(GOOD | {"why": name, "hooks": [HOOK | {"hook": name}]})
    History(tmp_path).add(HistoryEntry.from_report("s", name, "docker", report))
    tmp_path.chmod(0o700)
    env = os.environ | {"LIFECYCLE_MAGIC_STATE": str(tmp_path)}
    command = [sys.executable, "-m", "lifecycle_magic", "history"]
    done = subprocess.run(command, env=env, capture_output=True, check=True)
    assert b"Model" in done.stdout
    assert not {*done.stdout} & {0x1B, 0x07}


def dead_session(root: Path) -> Path:
    folder = root / "run" / secrets.token_hex(4)
    folder.mkdir(parents=True)
    DEAD.write(folder / "owner.json")
    return folder


def left(folder: Path, name: str) -> Path:
    """A run folder of an engine that nobody knows, with a report that makes sense."""
    (folder / name).mkdir()
    ContainerRecord("Left", "unknown", 1e9).write(folder / name)
    (folder / name / "report.json").write_text(json.dumps(GOOD | {"container": "another"}))
    return folder / name


def swept(*containers: str) -> dict[str, HistoryEntry]:
    current = session.current()
    current.sweep_again()
    return {e.container: e for e in current.history.entries() if e.container in containers}


def test_bad_folders_keep_no_other_from_the_history_and_from_ps(state_dir: Path) -> None:
    folder = dead_session(state_dir)
    mark = secrets.token_hex(4)
    for number, spoil in enumerate(SPOILED.values()):
        bad = left(folder, f"lm-{mark}-{number}")
        (bad / "report.json").unlink()
        for name in ("report.json", "log"):
            spoil(bad / name)
    for kind in ("fifo", "endless", "garbage"):
        SPOILED[kind](dead_session(state_dir) / "lm-file")
    left(folder, f"lm-{mark}-good")
    rows = {row.container for row in snapshot.of_root(state_dir, lambda name: no_engine())}
    assert f"lm-{mark}-good" in rows
    for one in snapshot.run_folders(state_dir):
        one.log(10)
    assert machine_checks.state_folder(state_dir).verdict == "ok"
    found = swept(*(f"lm-{mark}-{n}" for n in range(len(SPOILED))), f"lm-{mark}-good")
    assert len(found) == len(SPOILED) + 1
    assert found[f"lm-{mark}-good"].state == "exited"
    assert {one.state for one in found.values()} == {"exited", "failed"}
    assert not folder.exists()


def no_engine() -> Any:
    raise lm.exception.EngineError("none")


@pytest.mark.parametrize("kind", ["fifo", "endless", "empty", "list", "garbage", "deep"])
def test_a_damaged_card_is_told_by_doctor_and_stops_nothing(kind: str, state_dir: Path) -> None:
    folder = dead_session(state_dir)
    mark = secrets.token_hex(4)
    bad, good = left(folder, f"lm-{mark}-1"), left(folder, f"lm-{mark}-2")
    ContainerRecord.path(bad).unlink()
    SPOILED[kind](ContainerRecord.path(bad))
    assert str(ContainerRecord.path(bad)) in machine_checks.sessions(state_dir).details
    assert [one.path for one in snapshot.run_folders(state_dir) if mark in one.container] == [good]
    found = swept(bad.name, good.name)
    assert {name: one.state for name, one in found.items()} == {
        bad.name: "exited",
        good.name: "exited",
    }
    assert not folder.exists()


def test_what_killed_processes_left_half_made_is_removed(state_dir: Path) -> None:
    runs = state_dir / "run"
    runs.mkdir(exist_ok=True)
    me = Owner.me()
    living = f".making-{me.pid}-{me.started}-{me.boot[:8]}-999999"
    gone = f".making-{me.pid}-1-{me.boot[:8]}-0"
    for kind in ("run", "guest", "instances"):
        (state_dir / kind).mkdir(exist_ok=True)
        (state_dir / kind / living).mkdir()
        deep_folder(state_dir / kind / gone)
    old = state_dir / "guest" / ".part-abcdefgh"
    old.mkdir()
    os.utime(old, (1, 1))
    empty = runs / secrets.token_hex(4)
    empty.mkdir()
    swept()
    for kind in ("run", "guest", "instances"):
        assert (state_dir / kind / living).exists()
        assert not (state_dir / kind / gone).exists()
        remove_tree(str(state_dir / kind / living))
    assert not old.exists()
    assert not empty.exists()


def test_a_session_killed_at_its_opening_leaves_nothing_that_lasts(state_dir: Path) -> None:
    code = """
        import os, signal
        from lifecycle_magic.host import owner
        from lifecycle_magic.session import session
        owner.Owner.write = lambda self, path: os.kill(os.getpid(), signal.SIGKILL)
        session.current()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(temporary_names.abandoned(state_dir / "run"))
    swept()
    assert not list(temporary_names.abandoned(state_dir / "run"))


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", "", '{"name": 1}', "[" * 100_000],
    ids=["object", "list", "empty", "other", "deep"],
)
def test_a_damaged_record_of_an_instance_hides_no_other(text: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    bad = store.folder("instances") / "bad"
    bad.mkdir()
    (bad / "instance.json").write_text(text)
    good = InstanceRecord("good", "image", "venv", "/run", DEAD)
    (store.folder("instances") / "good").mkdir()
    store_write(store.place("instances", "good") / "instance.json", good)
    (store.folder("images") / "image").mkdir()
    (store.folder("images") / "image/image.json").write_text(text)
    assert [one.name for one in store.instances()] == ["good"]
    assert store.image("image") is None
    assert store.clear_leftovers() == []


def test_a_keeper_that_is_late_brings_no_folder_back(tmp_path: Path) -> None:
    run_dir = left(tmp_path, "lm-x")
    discard(run_dir)
    _write_exit(str(run_dir / "exit_code"), 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["fifo", "endless", "secret", "folder"])
def test_what_lies_in_the_way_is_neither_followed_nor_waited_for(kind: str, tmp_path: Path) -> None:
    secret = Path("/etc/passwd").read_bytes()
    for name in ("report.json", "report.json.part", "log", "log.1", "exit_code"):
        SPOILED[kind](tmp_path / name)
    files.write_json(str(tmp_path / "report.json"), GOOD)
    assert Report.from_run_folder(tmp_path) is not None
    journal = ContainerLog(str(tmp_path / "log"))
    for _ in range(MAX_BYTES // (1 << 20) * 3):
        journal.write("x" * (1 << 20))
    journal.close()
    assert 0 < (tmp_path / "log").stat().st_size <= MAX_BYTES
    _write_exit(str(tmp_path / "exit_code"), 3)
    if kind != "folder":
        assert run_files.read(tmp_path / "exit_code") == b"3\n"
    assert Path("/etc/passwd").read_bytes() == secret


def test_a_tree_with_locked_folders_and_links_is_removed_and_links_are_not_followed(
    tmp_path: Path,
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    tree = tmp_path / "tree"
    for name in ("a/b/c", "a/d", "e"):
        (tree / name).mkdir(parents=True)
        (tree / name / "file").touch()
    (tree / "a/link").symlink_to(kept)
    os.mkfifo(tree / "a/b/fifo")
    for name in ("a/b/c", "a/b", "a"):
        (tree / name).chmod(0o000)
    remove_tree(str(tree))
    assert not tree.exists()
    assert (kept / "file").exists()


def test_a_tree_whose_path_is_longer_than_a_path_may_be_is_removed(tmp_path: Path) -> None:
    deep_folder(tmp_path / "deep", levels=3000)
    remove_tree(str(tmp_path / "deep"))
    assert not (tmp_path / "deep").exists()


# --- a hostile container -------------------------------------------------------------------------

HOSTILE = """
    import os, sys
    import lifecycle_magic as lm

    app = lm.App("hostile")

    @app.cls()
    class Hostile:
        @lm.method()
        def spoil(self, victim):
            # Of the supervisor, whose fork this is: the last word of its command is the run folder.
            run = open("/proc/self/cmdline").read().split(chr(0))[-2]
            for name in ("report.json", "report.json.part", "card.json", "log.1"):
                os.path.lexists(f"{run}/{name}") or os.mkfifo(f"{run}/{name}")
            os.unlink(f"{run}/log")
            os.mkfifo(f"{run}/log")
            os.path.lexists(f"{run}/exit_code") or os.symlink(victim, f"{run}/exit_code")
            os.replace(f"{run}/report.json.part", f"{run}/start.log")
            os.mkdir(f"{run}/deep")
            here = os.open(f"{run}/deep", os.O_RDONLY)
            for _ in range(3000):
                os.mkdir("d", dir_fd=here)
                inner = os.open("d", os.O_RDONLY, dir_fd=here)
                os.close(here)
                here = inner
            os.close(here)
            return os.environ.get("HOSTNAME", "")

        @lm.method()
        def shrink(self):
            run = open("/proc/self/cmdline").read().split(chr(0))[-2]
            os.truncate(f"{run}/begun", 0)
            os._exit(3)
"""


def test_a_hostile_container_of_a_dead_kernel_is_told_as_any_other(
    engine_name: str, tmp_path: Path, state_dir: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    code = textwrap.dedent(HOSTILE) + textwrap.dedent(f"""
        Hostile().spoil.remote({str(victim)!r})
        from lifecycle_magic.session import session
        [one] = session.current().containers()
        print(one.name, one.plan.launch.run_dir, flush=True)
        os.kill(os.getpid(), 9)
    """)
    script = tmp_path / "hostile.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    name, run_dir = done.stdout.split()
    entry = wait_for(lambda: swept(name).get(name), "the end of the hostile container")
    assert (entry.cls, entry.engine) == ("Hostile", engine_name)
    assert entry.state == "exited"
    assert not Path(run_dir).exists()
    assert not Path(run_dir).parent.exists()
    assert victim.read_text() == "precious"


def test_a_page_that_a_container_cut_off_does_not_kill_the_kernel(
    engine_name: str,
) -> None:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(textwrap.dedent(HOSTILE), space)
    with pytest.raises(ContainerDied, match="exit code 3"):
        space["Hostile"]().shrink.remote()
    space["app"].stop()
