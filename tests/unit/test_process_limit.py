"""A reached limit on processes, from the words of the program that reached it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lifecycle_magic.host import process_limit


@pytest.mark.parametrize(
    "said",
    [
        "BlockingIOError: [Errno 11] Resource temporarily unavailable",
        "RuntimeError: can't start new thread",
        "OS can't spawn worker thread: Resource temporarily unavailable (os error 11)",
        "sh: 0: Cannot fork",
    ],
)
def test_the_words_of_python_uv_and_the_shell_are_understood(said: str, tmp_path: Path) -> None:
    assert "no further process or thread" in process_limit.explain(said, tmp_path)


@pytest.mark.parametrize("name", ["sys/fs/cgroup/pids.max", "sys/fs/cgroup/pids/pids.max"])
def test_the_limit_of_the_group_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text("24\n")
    told = process_limit.explain("can't start new thread", tmp_path)
    assert "allows 24" in told
    assert "--pids-limit" in told


def test_without_a_group_it_is_the_users(tmp_path: Path) -> None:
    path = tmp_path / "sys/fs/cgroup/pids.max"
    path.parent.mkdir(parents=True)
    path.write_text("max\n")
    assert "this user has" in process_limit.explain("can't start new thread", tmp_path)


def test_other_errors_are_left_as_they_are() -> None:
    assert process_limit.explain("no space left on device") == ""


def test_the_least_limit_of_the_groups_around_counts(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("5:cpu:/x\n0::/user.slice/user-1000.slice/a.scope\n")
    for group, limit in (("user.slice", "max"), ("user.slice/user-1000.slice", "700")):
        (tmp_path / "sys/fs/cgroup" / group).mkdir(parents=True)
        (tmp_path / "sys/fs/cgroup" / group / "pids.max").write_text(f"{limit}\n")
    assert process_limit.bound(tmp_path).startswith("at most 700 ")
    assert "allows 700" in process_limit.explain("can't start new thread", tmp_path)
