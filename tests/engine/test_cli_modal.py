"""The commands that Modal has too: ``shell``, ``volume``, ``app``, and lists as JSON."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifecycle_magic.ui.cli.main import main

COMMAND = (sys.executable, "-m", "lifecycle_magic")
SCRIPT = """\
import lifecycle_magic as modal

app = modal.App("shelled")
kept = modal.Volume.from_name("kept")


@app.cls(
    image=modal.Image.debian_slim().env({"GREETING": "hello"}),
    volumes={"/data": kept},
    secrets=[modal.Secret.from_dict({"TOKEN": "hidden"})],
)
class Model:
    @modal.build()
    def build(self):
        with open("/opt/made", "w") as file:
            file.write("built ")

    @modal.enter()
    def load(self):
        raise SystemExit("enter runs")

    @modal.method()
    def get(self):
        return 1


@app.function(volumes={"/data": kept})
def square(x: int):
    return x * x
"""


@pytest.fixture(autouse=True)
def on_the_process_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIFECYCLE_MAGIC_ENGINE", "process")
    monkeypatch.setenv("LIFECYCLE_MAGIC_STATE", str(tmp_path / "state"))


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "script.py").write_text(SCRIPT)
    return str(tmp_path / "script.py")


def cli(*words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, input=given or "")


@pytest.fixture
def here(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command in this process, which is quicker."""

    def run(*words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr("builtins.input", lambda question: given)
        capfd.readouterr()
        code = main(words)
        return subprocess.CompletedProcess(words, code, *capfd.readouterr())

    return run


def listed(run: Callable[..., subprocess.CompletedProcess[str]], *words: str) -> Any:
    told = run(*words, "--json")
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def test_a_command_runs_in_a_container_as_the_class_has_it(script: str) -> None:
    told = cli("shell", f"{script}::Model.get", "-c", 'cat /opt/made; echo "$GREETING $TOKEN"')
    assert (told.stdout, told.returncode) == ("built hello hidden\n", 0), told.stderr


def test_a_shell_reads_its_commands_and_gives_its_exit_code(script: str) -> None:
    told = cli("shell", f"{script}::square", given="echo $((1 + 2)) > /data/x; cat /data/x; exit 3")
    assert (told.stdout, told.returncode) == ("3\n", 3), told.stderr
    told = cli("shell", script, "-c", "true")
    assert told.returncode == 1
    assert "it has Model, square. Fix: script.py::name" in told.stderr


def test_a_shell_without_a_script_has_a_terminal(tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*COMMAND, "shell"])
    os.write(terminal, b"test -t 0 && echo seven-$((3 + 4)); exit 5\n")
    shown = b""
    while block := read(terminal):
        shown += block
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5, shown
    assert b"seven-7" in shown


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def test_files_go_into_a_volume_and_out_of_it(
    tmp_path: Path, here: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "a.txt").write_text("a")
    (tmp_path / "in" / "deep" / "b.txt").write_text("b")
    assert here("volume", "create", "files").returncode == 0
    assert listed(here, "volume", "list") == [{"name": "files"}]
    assert here("volume", "put", "files", str(tmp_path / "in"), "/models").returncode == 0
    again = here("volume", "put", "files", str(tmp_path / "in"), "/models")
    assert (again.returncode, "--force" in again.stderr) == (1, True)
    [deep] = [
        one for one in listed(here, "volume", "ls", "files", "models") if one["path"][-1] == "p"
    ]
    assert (deep["path"], deep["type"]) == ("models/deep", "directory")
    assert here("volume", "cp", "files", "models/a.txt", "c.txt").returncode == 0
    assert here("volume", "get", "files", "c.txt", "-").stdout == "a"
    out = tmp_path / "out"
    out.mkdir()
    told = here("volume", "get", "files", "models", str(out))
    assert (out / "models" / "deep" / "b.txt").read_text() == "b", told.stderr
    assert here("volume", "get", "files", "models", str(out)).returncode == 1
    assert here("volume", "get", "files", "c.txt", str(out / "d.txt")).returncode == 0
    assert (out / "d.txt").read_text() == "a"
    assert here("volume", "rm", "files", "models").returncode == 1
    assert here("volume", "rm", "files", "models", "-r").returncode == 0
    assert [one["path"] for one in listed(here, "volume", "ls", "files")] == ["c.txt"]
    assert here("volume", "rename", "files", "others").returncode == 0
    assert here("volume", "ls", "files").returncode == 1
    assert here("volume", "delete", "others", given="n").stdout.endswith("nothing was removed\n")
    assert here("volume", "delete", "others", "-y").returncode == 0
    assert listed(here, "volume", "list") == []


def test_every_list_is_there_as_json(
    tmp_path: Path, here: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    assert here("secret", "create", "token", "A=1").returncode == 0
    assert listed(here, "secret", "list") == [{"name": "token", "variables": ["A"]}]
    for words in (["ps"], ["apps"], ["app", "list"], ["history"], ["ps", "--images"]):
        assert listed(here, *words) == []
    (tmp_path / "one.py").write_text(SCRIPT)
    assert cli("run", f"{tmp_path / 'one.py'}::square", "--x", "3").returncode == 0
    [ended] = listed(here, "history")
    assert (ended["cls"], ended["state"], ended["hooks"]) == ("square", "exited", [])
    assert {"kind", "size"} <= listed(here, "ps", "--images")[0].keys()
    assert {one["verdict"] for one in listed(here, "doctor")} <= {"ok", "warn"}


def test_an_app_is_listed_shows_its_output_and_is_stopped(tmp_path: Path) -> None:
    script = tmp_path / "noted.py"
    script.write_text(SCRIPT.replace("raise SystemExit", "print").replace("shelled", "noted"))
    assert cli("deploy", str(script)).returncode == 0
    try:
        shown = {(one["app"], one["name"], one["deployment"]) for one in listed(cli, "app", "list")}
        assert shown == {("noted", "Model", "noted"), ("noted", "square", "noted")}
        assert "enter runs" in cli("app", "logs", "noted").stdout
        words = [*COMMAND, "app", "logs", "noted", "--follow", "-n", "1"]
        follower = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert follower.stdout is not None
        while "enter runs" not in follower.stdout.readline():
            assert follower.poll() is None
    finally:
        told = cli("app", "stop", "noted")
    assert "noted is stopped" in told.stdout
    follower.communicate(timeout=60)
    assert follower.returncode == 0
    assert "enter runs" in cli("app", "logs", "noted", "-n", "5").stdout
    gone = cli("app", "stop", "noted")
    assert (gone.returncode, "no app or deployment is named 'noted'" in gone.stderr) == (1, True)


SHARES = """\
import sys

import lifecycle_magic as modal

app = modal.App("shares")
jobs = modal.Queue.from_name("jobs", create_if_missing=True)
seen = modal.Dict.from_name("seen", create_if_missing=True)


@app.function()
def nothing(): ...


@app.local_entrypoint()
def main():
    jobs.put_many([1, "two"])
    jobs.put("elsewhere", partition="other")
    seen.update({"a": 1, 2: "b", "c": [1]})
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_queues_and_dictionaries_of_a_living_session_are_read_and_changed(
    tmp_path: Path, here: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (tmp_path / "shares.py").write_text(SHARES)
    assert here("queue", "list").stdout == "there is no queue\n"
    command = [*COMMAND, "run", "-q", str(tmp_path / "shares.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}  # the script waits for the first
    with subprocess.Popen(command, **pipes, text=True) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == "ready\n"
            [queue] = listed(here, "queue", "list")
            assert (queue["name"], queue["items"]) == ("jobs", 3)
            [found] = listed(here, "dict", "list")
            assert (found["name"], found["keys"]) == ("seen", 3)
            assert here("queue", "peek", "jobs", "5").stdout == "1\n'two'\n"
            assert here("queue", "peek", "jobs", "-p", "other").stdout == "'elsewhere'\n"
            assert here("queue", "len", "jobs").stdout == "2\n"
            assert here("queue", "len", "jobs", "--total").stdout == "3\n"
            assert here("dict", "get", "seen", "a").stdout == "1\n"
            told = here("dict", "get", "seen", "none")
            assert (told.returncode, "has no key 'none'" in told.stderr) == (1, True)
            shown = here("dict", "items", "seen", "2", "--repr").stdout.splitlines()
            assert shown.pop() == "and 1 more: --all prints them"
            assert [line.split() for line in shown] == [
                ["key", "value"],
                ["'a'", "1"],
                ["2", "'b'"],
            ]
            assert listed(here, "dict", "items", "seen", "1") == [{"key": "a", "value": 1}]
            assert here("queue", "clear", "jobs", "--all").stdout == "nothing was removed\n"
            here("queue", "clear", "jobs", "--all", given="y")
            assert here("queue", "len", "jobs", "-t").stdout == "0\n"
            here("dict", "clear", "seen", "-y")
            assert here("dict", "items", "seen").stdout == "it is empty\n"
            assert here("dict", "delete", "seen", "-y").returncode == 0
            assert here("dict", "delete", "seen", "-y", "--allow-missing").returncode == 0
            told = here("dict", "delete", "seen", "-y")
            assert told.returncode == 1
            assert "no living session has a dict 'seen'" in told.stderr
            assert here("queue", "delete", "jobs", "-y").returncode == 0
        finally:
            running.terminate()
