"""Another user of the machine can't have this user run code by way of the state folder."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import missing

from lifecycle_magic.exception import EngineError
from lifecycle_magic.host import paths
from lifecycle_magic.host.safe_folder import open_safely
from lifecycle_magic.ui import machine_checks


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder of this user in which a state folder may lie."""
    with tempfile.TemporaryDirectory(prefix="lm-") as folder:
        yield Path(folder)


@pytest.fixture
def stranger() -> Iterator[int]:
    """The id of a user who is made for the test."""
    if os.geteuid() != 0 or shutil.which("useradd") is None:
        missing("making another user needs root and useradd: install passwd")
    name = f"lm-{secrets.token_hex(4)}"
    subprocess.run(["useradd", "--no-create-home", "--user-group", name], check=True)
    try:
        found = subprocess.run(["id", "-u", name], capture_output=True, text=True, check=True)
        yield int(found.stdout)
    finally:
        subprocess.run(["userdel", name], check=True)


def refusal(path: Path) -> str:
    """What is said of the state folder ``path``."""
    with pytest.raises(EngineError) as refused:
        open_safely(path)
    assert "Fix: " in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_every_folder_that_is_made_is_private_whatever_the_umask(place: Path, umask: int) -> None:
    root = place / ".local/state/lifecycle_magic"
    before = os.umask(umask)
    try:
        assert open_safely(root) == ()
        paths.private_folder(place / "a/b")
    finally:
        os.umask(before)
    made = [*(one for one in root.parents if place in one.parents), root]
    assert {one.stat().st_mode & 0o7777 for one in made} == {0o700}
    assert (place / "a").stat().st_mode & 0o077 == 0


def test_a_folder_of_another_user_is_refused(place: Path, stranger: int) -> None:
    root = place / "state"
    root.mkdir(0o700)
    os.chown(root, stranger, -1)
    assert f"the folder {root} belongs to user lm-" in refusal(root)


def test_a_parent_of_another_user_is_refused(place: Path, stranger: int) -> None:
    (place / "theirs").mkdir(0o755)
    os.chown(place / "theirs", stranger, -1)
    assert f"the folder {place}/theirs, in which" in refusal(place / "theirs/state")
    assert not (place / "theirs/state").exists()


def test_a_link_of_another_user_is_refused(place: Path, stranger: int) -> None:
    (place / "shared").mkdir()
    (place / "shared").chmod(0o1777)
    link = place / "shared/state"
    link.symlink_to("/root")
    os.chown(link, stranger, -1, follow_symlinks=False)
    assert f"{link}, in which" in refusal(link / "x")


def test_own_links_are_followed_and_what_they_lead_to_is_checked(place: Path) -> None:
    (place / "open").mkdir()
    (place / "open").chmod(0o777)
    (place / "real").mkdir(0o700)
    (place / "good").symlink_to("real")
    (place / "bad").symlink_to(place / "open")
    (place / "loop").symlink_to("loop")
    assert open_safely(place / "good/state") == ()
    assert "may be written by every user" in refusal(place / "bad/state")
    assert f"Fix: chmod o-w {place}/open" in refusal(place / "bad/state")
    refusal(place / "loop/state")


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        (0o777, "could be written by other users, so what lies there can't be trusted. Fix: mv "),
        (0o730, "could be written by other users"),
        (0o755, "can be read by other users. Fix: chmod 700 "),
    ],
)
def test_a_state_folder_that_is_open_to_others_is_refused(
    place: Path, mode: int, told: str
) -> None:
    (place / "state").mkdir()
    (place / "state").chmod(mode)
    assert told in refusal(place / "state")


def test_a_world_writable_parent_will_do_with_the_sticky_bit_only(place: Path) -> None:
    (place / "tmp").mkdir()
    (place / "tmp").chmod(0o1777)
    assert open_safely(place / "tmp/state") == ()
    (place / "tmp").chmod(0o777)
    assert "may be written by every user" in refusal(place / "tmp/state")


def test_a_parent_of_a_group_with_other_members_is_a_warning(place: Path, stranger: int) -> None:
    (place / "group").mkdir()
    (place / "group").chmod(0o775)
    assert open_safely(place / "group/state") == ()  # of this user's own group
    os.chown(place / "group", -1, stranger)  # useradd gave the user's group the same number
    [warning] = open_safely(place / "group/state")
    assert f"{place}/group, in which" in warning
    assert f"Fix: chmod g-w {place}/group" in warning
    assert machine_checks.state_folder(place / "group/state").verdict == "warn"


def test_a_file_in_the_way_is_a_sentence_in_the_error_and_in_doctor(place: Path) -> None:
    (place / "state").touch()
    assert f"{place}/state is not a folder. Fix: " in refusal(place / "state")
    assert f"{place}/state is not a folder" in refusal(place / "state/lifecycle_magic")
    found = machine_checks.state_folder(place / "state")
    assert (found.verdict, "is not a folder" in found.details) == ("fail", True)
    assert found.fix.startswith("export LIFECYCLE_MAGIC_STATE=")


@contextlib.contextmanager
def mounted(place: Path, options: str) -> Iterator[None]:
    if os.geteuid() != 0:
        missing("mounting a disk needs root")
    command = ["mount", "-t", "tmpfs", "-o", f"mode=0700,{options}", "tmpfs", str(place)]
    if (done := subprocess.run(command, capture_output=True, text=True, check=False)).returncode:
        missing(f"no disk can be mounted: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def run(state: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """One of our commands with this state folder."""
    return subprocess.run(
        [sys.executable, "-m", "lifecycle_magic", *words],
        env={**os.environ, **env, "LIFECYCLE_MAGIC_STATE": str(state)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.process
@pytest.mark.parametrize("options", ["ro", "size=4k"])
def test_a_disk_that_can_t_be_written_is_a_sentence(place: Path, options: str) -> None:
    with mounted(place, options):
        if options != "ro":
            with contextlib.suppress(OSError), (place / "filler").open("wb") as file:
                file.write(bytes(1 << 20))
        told = run(place, "history", LIFECYCLE_MAGIC_ENGINE="process")
        assert told.returncode == 1
        assert told.stderr.startswith("lifecycle-magic: ")
        assert "Traceback" not in told.stderr
        assert "Fix: " in told.stderr or "Fix: " in told.stderr
        found = [machine_checks.state_folder(place), machine_checks.disk(place)]
        assert "fail" in {one.verdict for one in found}


@pytest.mark.process
def test_code_that_another_user_put_there_does_not_run(place: Path, stranger: int) -> None:
    place.chmod(0o1777)
    root = place / "state"
    root.mkdir()
    root.chmod(0o777)
    os.chown(root, stranger, -1)
    for words in (["ps"], ["history"], ["prune", "-y"]):
        told = run(root, *words, LIFECYCLE_MAGIC_ENGINE="process")
        assert told.returncode == 1
        assert f"the folder {root} belongs to user lm-" in told.stderr
    assert list(root.iterdir()) == []
    told = run(root, "doctor", LIFECYCLE_MAGIC_ENGINE="process")
    assert told.returncode == 1
    assert "belongs to user lm-" in told.stdout


def test_the_check_is_done_once_for_each_root(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_MAGIC_STATE", str(place / "state"))
    checked: list[Path] = []
    monkeypatch.setattr(
        paths, "open_safely", lambda path: checked.append(path) or open_safely(path)
    )
    for _ in range(3):
        assert paths.state_root() == place / "state"
    assert checked == [place / "state"]
