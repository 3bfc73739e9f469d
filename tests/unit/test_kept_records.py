"""Records of the state folder: they outlive crashes, and other processes that write them."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from lifecycle_magic.building import build_log
from lifecycle_magic.lifecycle import history
from lifecycle_magic.lifecycle.history import History, HistoryEntry
from lifecycle_magic.lifecycle.report import Report
from lifecycle_magic.lifecycle.states import BuildStep


def add(folder: Path, first: int, count: int) -> None:
    for number in range(first, first + count):
        report = Report(f"c{number}", orderly=True, entered=True, why="")
        History(folder).add(HistoryEntry.from_report("s", "Model", "process", report))


def names(folder: Path) -> list[str]:
    return [entry.container for entry in History(folder).entries()]


def test_the_newest_entries_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_ENTRIES", 5)
    add(tmp_path, 0, 11)
    assert names(tmp_path) == [f"c{number}" for number in range(6, 11)]
    assert (tmp_path / "history.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_crash_while_old_entries_are_dropped_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_ENTRIES", 5)
    add(tmp_path, 0, 10)

    def crash(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(SystemExit):
            add(tmp_path, 10, 1)
    assert names(tmp_path) == [f"c{number}" for number in range(11)]
    add(tmp_path, 11, 1)
    assert names(tmp_path) == [f"c{number}" for number in range(7, 12)]


def test_processes_that_write_at_once_lose_no_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_ENTRIES", 200)  # three times the file is replaced
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=add, args=(tmp_path, 1000 * n, 250)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    kept = names(tmp_path)
    assert 200 <= len(kept) <= 400
    for n in range(4):  # what is kept of each writer is its last, without a gap
        own = [int(name[1:]) for name in kept if int(name[1:]) // 1000 == n]
        assert own == list(range(1000 * n + 250 - len(own), 1000 * n + 250))


def build(name: str, text: str) -> None:
    log = build_log.BuildLog("process", name)
    log.take(BuildStep(name, 1, 1, "output", text, time.time()))
    log.close()


@pytest.fixture
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_MAGIC_STATE", str(tmp_path / "state"))


@pytest.mark.usefixtures("own_state")
def test_notebooks_with_classes_of_one_name_keep_their_build_logs() -> None:
    build("Model", "mine")
    other = multiprocessing.get_context("fork").Process(target=build, args=("Model", "theirs"))
    other.start()
    other.join()
    path = build_log.find("Model")
    assert path is not None
    assert build_log.read(path) == "mine"
    assert len(list(path.parent.glob("*.log"))) == 2
    build("Other", "more")
    assert build_log.find("Mode?") is None


@pytest.mark.usefixtures("own_state")
def test_old_build_logs_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_log, "MOST_LOGS", 3)
    for name in "abcde":
        build(name, name)
        path = build_log.find(name)
        assert path is not None
        os.utime(path, (ord(name), ord(name)))
    assert [name for name in "abcde" if build_log.find(name)] == ["c", "d", "e"]
