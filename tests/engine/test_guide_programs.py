"""Programs of the kind that Modal's guide to lifecycle hooks shows, with our name in the import.

They are real scripts (in ``guide/``), started as a user does: ``lifecycle-magic run SCRIPT``.
Guide: https://modal.com/docs/guide/lifecycle-functions
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import lifecycle_magic as lm
from lifecycle_magic.lifecycle.states import Notice
from lifecycle_magic.session import session

PROGRAMS = Path(__file__).with_name("guide")
COMMAND = Path(sys.executable).with_name("lifecycle-magic")


def run(script: str, *arguments: str, **environment: str) -> list[str]:
    """What ``lifecycle-magic run`` of a guide program prints on standard output, line by line."""
    done = subprocess.run(
        [COMMAND, "run", PROGRAMS / script, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def value(lines: list[str], label: str) -> str:
    """What a program printed after ``label``, which it must have printed once."""
    (line,) = [line for line in lines if line.startswith(f"{label} ")]
    return line.removeprefix(f"{label} ")


def test_a_model_in_the_image_is_loaded_by_enter(engine_name: str) -> None:
    assert value(run("enter_model.py"), "predicted") == "1230"


def test_async_hooks_and_methods_are_awaited(engine_name: str) -> None:
    lines = run("async_processor.py")
    assert value(lines, "awaited 123") == "m"
    assert value(lines, "awaited together") == "['0 m', '1 m', '2 m']"


def test_a_database_connection_is_closed_when_the_program_ends(
    engine_name: str, tmp_path: Path
) -> None:
    lines = run("database.py", GUIDE_FOLDER=str(tmp_path))
    assert value(lines, "orders") == "[1, 2, 3]"
    connection = sqlite3.connect(tmp_path / "orders.db")
    try:
        items = [item for (item,) in connection.execute("select item from orders order by rowid")]
        told = [what for (what,) in connection.execute("select what from log order by rowid")]
    finally:
        connection.close()
    assert items == ["tea", "milk", "cups"]
    assert told == ["opened", "closed"]


def test_what_build_wrote_is_in_the_image_for_every_run(engine_name: str) -> None:
    first, second = run("build_download.py"), run("build_download.py")
    assert len(value(first, "weights")) == 32
    assert value(second, "weights") == value(first, "weights")
    assert value(first, "fetched here") == value(second, "fetched here") == "False"


def test_build_stacked_on_enter_downloads_once_and_loads_in_each_container(
    engine_name: str,
) -> None:
    first, second = run("build_and_enter.py"), run("build_and_enter.py")
    assert len(value(first, "weights")) == 32
    assert value(second, "weights") == value(first, "weights")
    assert value(first, "downloaded by enter") == "False"
    assert value(second, "downloaded by enter") == "False"


def test_equal_parameters_share_a_container_and_others_do_not(engine_name: str) -> None:
    assert run("parametrized.py") == [
        "hello Ada, number 1",
        "hello Alan, number 2",
        "bonjour Marie, number 1",
        "BONJOUR HENRI, NUMBER 1",
    ]


def test_parameters_of_the_entry_point_are_command_line_options(engine_name: str) -> None:
    lines = run("entrypoint.py", "--number", "3", "--times", "2")
    assert lines == ["squaring 3", "squaring 9", "result 81", "squaring 3", "here 9"]


class Cores:
    @lm.method()
    def there(self) -> int:
        return os.cpu_count() or 0


def test_more_cores_than_there_are_become_all_of_them_with_a_notice(
    engine_name: str, request: pytest.FixtureRequest
) -> None:
    here = os.cpu_count() or 1
    app = lm.App(request.node.name)  # a class says each notice once, also when a test runs again
    handle = app.cls(Cores, cpu=here + 6)
    told: list[str] = []

    def note(event: object) -> None:
        if isinstance(event, Notice):
            told.append(event.text)

    unsubscribe = session.current().bus.subscribe(note)
    try:
        with app.run():
            assert handle().there.remote() == here
    finally:
        unsubscribe()
    (notice,) = [text for text in told if "cpu=" in text]
    assert f"cpu={here + 6}" in notice
    assert f"{here} cores" in notice
