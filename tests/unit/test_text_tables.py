"""Text of tables, times, sizes and histories, without control characters."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lifecycle_magic.engines.base import FoundContainer
from lifecycle_magic.exception import EngineUnavailable
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.lifecycle.failed_classes import FailedClass
from lifecycle_magic.lifecycle.history import History, HistoryEntry
from lifecycle_magic.lifecycle.report import ExitHook
from lifecycle_magic.ui.panel import history_text as told
from lifecycle_magic.ui.panel import snapshot
from lifecycle_magic.ui.panel.snapshot import ContainerRow
from lifecycle_magic.ui.panel.text import Table, age, last_lines, plain, seconds, size

pytestmark = pytest.mark.every_python

TABLE = Table(("class", "calls"), (("Model", "3"), ("<b>\x1b[31m", "12")), frozenset({"calls"}))


def test_a_table_as_text_is_aligned_and_plain():
    assert TABLE.text() == "class  calls\nModel      3\n<b>       12"
    assert repr(TABLE) == TABLE.text()


def test_a_table_as_html_is_escaped():
    page = TABLE._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "\x1b" not in page


def test_a_cell_of_several_lines_stays_one_line_of_text():
    assert Table(("why",), (("one\ntwo",),)).text() == "why\none two"


def test_an_empty_table_has_a_message():
    empty = Table(("class",), (), empty="nothing <runs>")
    assert empty.text() == "nothing <runs>"
    assert "nothing &lt;runs&gt;" in empty.html()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0, "0 µs"),
        (0.0000421, "42 µs"),
        (0.0042, "4.2 ms"),
        (0.42, "420 ms"),
        (0.9999, "1.0 s"),
        (59.96, "1 min 0 s"),
        (3700, "61 min 40 s"),
    ],
)
def test_seconds_as_people_read_them(value: float, told: str):
    assert seconds(value) == told


def test_ages_and_sizes():
    assert [age(value) for value in (-1, 59, 61, 3601, 90000)] == [
        "0 s",
        "59 s",
        "1 min",
        "1 h",
        "1 d",
    ]
    assert [size(value) for value in (0, 1023, 1536, 200 << 20, 3 << 40)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "200 MiB",
        "3072 GiB",
    ]


@pytest.mark.parametrize(
    "text",
    ["\x1b[31mred\x1b[0m", "\x1b]0;title\x07red", "red\x1b", "\x9bred\r", "\x1b]8;;x\x1b\\red"],
)
def test_plain_text_has_no_terminal_escapes(text: str):
    assert plain(text).endswith("red")
    assert plain(text).isprintable()


def test_last_lines():
    assert last_lines("a\nb\nc", 2) == "b\nc"
    assert last_lines("a\nb\n", 0) == ""


# --- ps ------------------------------------------------------------------------------------------


def test_a_column_without_known_values_is_left_out():
    rows = (ContainerRow("Model", "lm-model-1", "docker", "running", age=5.0, owner=12),)
    assert snapshot.table(rows).headers == ("class", "container", "state", "engine", "age", "pid")
    assert snapshot.table((), "nothing runs").text() == "nothing runs"


def test_memory_is_shown_with_its_limit():
    sizes = {"memory": 1 << 20, "memory_limit": 1 << 30}
    row = ContainerRow("Model", "c", "docker", "idle", calls=0, **sizes)
    assert "1.0 MiB of 1.0 GiB" in snapshot.table((row,)).text()


def run_folder(root: Path, session: str, name: str, owner: Owner, **card: object) -> Path:
    folder = root / "run" / session / name
    folder.mkdir(parents=True)
    owner.write(folder.parent / "owner.json")
    told = {"cls": "Model", "engine": "process", "began": 1.0, **card}
    folder.with_name(f"card-{name}.json").write_text(json.dumps(told))
    return folder


class Has:
    """An engine as far as `ps` asks it: it has these containers, running."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def containers(self) -> list[FoundContainer]:
        return [FoundContainer(name, name, {}, True) for name in self.names]


DEAD = Owner(1, "never", "another boot")


def test_ps_of_all_sessions_distinguishes_states(tmp_path: Path):
    run_folder(tmp_path, "a", "lives", Owner.me())
    run_folder(tmp_path, "a", "vanished", Owner.me())
    run_folder(tmp_path, "b", "leaves", DEAD)
    done = run_folder(tmp_path, "b", "left", DEAD)
    (done / "report.json").write_text("{}")
    (tmp_path / "run" / "b" / "unfinished").mkdir()
    rows = snapshot.of_root(tmp_path, lambda name: Has("lives", "leaves"))  # type: ignore[arg-type]
    assert {row.container: row.state for row in rows} == {
        "lives": "running",
        "vanished": "gone",
        "leaves": "exiting",
        "left": "exited",
    }
    assert {row.owner for row in rows if row.container == "lives"} == {os.getpid()}


def test_ps_of_all_sessions_lists_what_failed_in_those_that_live(tmp_path: Path):
    run_folder(tmp_path, "a", "lives", Owner.me())
    run_folder(tmp_path, "b", "left", DEAD)
    for session in ("a", "b"):
        record = FailedClass("Unbuilt", "app/Unbuilt", "process", 1.0, "BuildError: no weights")
        record.write(tmp_path / "run" / session)
        for name, cls in [("one", "Unstarted"), ("two", "Model")]:
            why = "enter failed: ValueError: no model"
            entry = HistoryEntry(
                session, name, cls, "process", "failed", why, 1.0, 2.0, service=cls
            )
            History(tmp_path).add(entry)
    (tmp_path / "run" / "a" / "failed-0.json").write_text('{"cls": 3}')
    rows = snapshot.of_root(tmp_path, lambda name: Has("lives"))  # type: ignore[arg-type]
    failed = {row.cls: row for row in rows if row.state == "failed"}
    assert set(failed) == {"Unbuilt", "Unstarted"}, "Model has a container again"
    assert {row.owner for row in failed.values()} == {os.getpid()}
    assert snapshot.failures(rows) == (
        "Unbuilt: BuildError: no weights",
        "Unstarted: enter failed: ValueError: no model",
    )


def test_ps_without_an_answer_of_the_engine_shows_unknown(tmp_path: Path):
    run_folder(tmp_path, "a", "lives", Owner.me(), engine="docker")

    def refuse(name: str):
        raise EngineUnavailable("no")

    assert [row.state for row in snapshot.of_root(tmp_path, refuse)] == ["unknown"]


def test_the_log_of_a_run_folder_is_read_across_its_two_files(tmp_path: Path):
    folder = run_folder(tmp_path, "a", "lives", Owner.me())
    (folder / "log.1").write_text("one\ntwo\n")
    (folder / "log").write_text("three\n")
    (found,) = snapshot.run_folders(tmp_path)
    assert found.log(2) == "two\nthree\n"
    assert found.log(10) == "one\ntwo\nthree\n"


# --- history -------------------------------------------------------------------------------------

ENTRY = HistoryEntry("s", "lm-model-1", "Model", "docker", "exited", "app.stop()", 100.0, 102.5)


def test_an_entry_has_the_lifetime_and_each_exit_hook():
    hooks = (ExitHook("close", 0.5, None), ExitHook("flush", 0.25, "Traceback:\n  no\n"))
    lines = told.entry(HistoryEntry(**{**ENTRY.__dict__, "hooks": hooks})).splitlines()
    assert lines[0].endswith("Model  exited after 2.5 s: app.stop()  [lm-model-1]")
    assert lines[1:] == [
        "    close()  ok in 500 ms",
        "    flush()  raised in 250 ms",
        "        Traceback:",
        "          no",
    ]


def test_a_failure_shows_its_last_lines_and_an_orderly_end_does_not():
    tail = "\n".join(f"line {n}" for n in range(30))
    failed = told.entry(HistoryEntry(**{**ENTRY.__dict__, "state": "failed", "tail": tail}))
    assert failed.splitlines()[-1].strip() == "line 29"
    assert "line 19\n" not in failed
    assert "line 29" not in told.entry(HistoryEntry(**{**ENTRY.__dict__, "tail": tail}))


def test_the_history_is_the_newest_entries_with_the_newest_last():
    entries = [HistoryEntry(**{**ENTRY.__dict__, "container": f"c{n}"}) for n in range(5)]
    lines = told.history(entries, 2).splitlines()
    assert [line.rpartition("[")[2] for line in lines] == ["c3]", "c4]"]
    assert told.history([], 2) == "no container has ended yet"
