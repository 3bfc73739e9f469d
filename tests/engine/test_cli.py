"""The command line, as a user types it: each command is a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("engine_name")

SCRIPT = """\
import time

import beside
import lifecycle_magic as modal

app = modal.App("script")


@app.cls(exit_grace=20)
class Model:
    @modal.enter()
    def load(self):
        self.calls = 0

    @modal.method()
    def double(self, x):
        self.calls += 1
        print(f"doubling {x}")
        return beside.double(x)

    @modal.method()
    def fail(self, x):
        return beside.divide(x)

    @modal.method()
    def wait(self):
        print("waiting", flush=True)
        time.sleep(600)

    @modal.exit()
    def close(self):
        time.sleep(0.2)
        print(f"closed after {self.calls} calls")


@app.local_entrypoint()
def main(x: int = 3, name: str = "a", loud: bool = False):
    print(Model().double.remote(x), name, loud)


@app.local_entrypoint()
async def later(x: int):
    print(await Model().double.remote.aio(x))


@app.local_entrypoint()
def fails():
    Model().fail.remote(0)


@app.local_entrypoint()
async def fails_later():
    await Model().fail.remote.aio(0)


@app.local_entrypoint()
def waits():
    Model().wait.remote()
"""
BESIDE = """\
def double(x):
    return 2 * x


def divide(x):
    return 1 / x
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "beside.py").write_text(BESIDE)
    (folder / "script.py").write_text(SCRIPT)
    return folder / "script.py"


COMMAND = (sys.executable, "-m", "lifecycle_magic")


def cli(*words: str, cwd: Path | None = None, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, cwd=cwd, input=given)


@contextmanager
def waiting(script: Path) -> Iterator[subprocess.Popen[str]]:
    """A run whose method is in the middle of a call."""
    run = subprocess.Popen(
        [*COMMAND, "run", f"{script}::waits"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.stdout is not None
    try:
        seen = []
        for line in run.stdout:
            seen.append(line)
            if line == "waiting\n":
                break
        else:
            pytest.fail(f"it ended before it waited: {''.join(seen)}")
        yield run
    finally:
        run.kill()  # unless it has ended
        run.wait()
        run.stdout.close()


def interrupt(run: subprocess.Popen[str]) -> str:
    """Ctrl-C; what it printed from then to its end."""
    run.send_signal(signal.SIGINT)
    return run.communicate()[0]


def files_of(traceback: str) -> list[str]:
    return [line.split('"')[1] for line in traceback.splitlines() if '  File "' in line]


# --- run -----------------------------------------------------------------------------------------


def test_run_calls_the_entry_point_with_options_and_waits_for_exit(script: Path):
    told = cli("run", "scripts/script.py::main", "--x", "4", "--loud", cwd=script.parent.parent)
    assert told.returncode == 0, told.stderr
    assert told.stdout == "doubling 4\n8 a True\n"
    assert "closed after 1 calls" in told.stderr
    assert re.search(r"lifecycle-magic: Model: warm after", told.stderr)
    assert re.search(r"lifecycle-magic: Model: exited after", told.stderr)


def test_run_runs_an_async_entry_point(script: Path):
    told = cli("run", f"{script}::later", "--x=5")
    assert (told.returncode, told.stdout) == (0, "doubling 5\n10\n")


@pytest.mark.parametrize("entrypoint", ["fails", "fails_later"])
def test_a_failing_method_shows_the_script_s_and_the_remote_frames(script: Path, entrypoint: str):
    told = cli("run", f"{script}::{entrypoint}")
    assert told.returncode == 1
    assert "return 1 / x" in told.stderr
    assert "ZeroDivisionError: division by zero" in told.stderr
    files = files_of(told.stderr)
    assert files[0] == str(script)
    assert {Path(name).name for name in files} == {"script.py", "beside.py"}
    assert "closed after 0 calls" in told.stderr


def test_an_entry_point_that_leaves_by_sys_exit_gives_its_code(script: Path):
    script.write_text(
        SCRIPT + "\n@app.local_entrypoint()\ndef leaves():\n    raise SystemExit(7)\n"
    )
    assert cli("run", f"{script}::leaves").returncode == 7


def test_ctrl_c_ends_the_run_with_the_exit_hooks_run(script: Path):
    with waiting(script) as run:
        told = interrupt(run)
    assert run.returncode == 130
    assert "interrupted; the containers run their exit hooks" in told
    assert "closed after 0 calls" in told
    assert "Model: exited after" in told


def test_mistakes_on_the_command_line_are_one_line(script: Path):
    told = cli("run", str(script))
    assert told.returncode == 1
    assert told.stderr.startswith(
        "lifecycle-magic: script.py has several entry points. Fix: name one of"
    )
    told = cli("run", "nope.py")
    assert (told.returncode, told.stderr) == (
        1,
        "lifecycle-magic: nope.py is not a file. Fix: give the path of a Python script\n",
    )
    told = cli("run", f"{script}::later")
    assert told.returncode == 2
    assert "required: --x" in told.stderr


FORMS = """\
from __future__ import annotations

import sys
from typing import Literal

import beside
import lifecycle_magic as modal

app = modal.App("forms")


@app.function()
def double(x: int, times: Literal[1, 2] = 1) -> str:
    print(f"doubling {x}")
    return str(beside.double(x) * times)


@app.function()
async def size(names: list[str]) -> bytes:
    return bytes(map(len, names))


@app.function()
def leave(code: int) -> None:
    sys.exit(code)


@app.cls()
class Model:
    factor: int = modal.parameter(default=2)
    name: str = modal.parameter()

    @modal.method()
    def scale(self, x: float = 1.0, *, loud: bool | None = None) -> str:
        return f"{self.name} {self.factor * x} {loud}"


@app.local_entrypoint()
def words(*words: str):
    print(words)
    return 3
"""


@pytest.fixture
def forms(script: Path) -> Path:
    script.write_text(FORMS)
    return script


def test_run_calls_a_function_and_writes_what_it_returns(forms: Path):
    result = forms.with_name("result")
    options = ("run", "-q", "--write-result", str(result))
    told = cli(*options, f"{forms}::double", "--x", "3", "--times=2")
    assert (told.returncode, told.stdout) == (0, "doubling 3\n"), told.stderr
    assert " after " not in told.stderr  # warm after, exited after
    assert result.read_text() == "12"
    told = cli(*options, f"{forms}::app.size", "--names", "ab", "--names", "c")
    assert told.returncode == 0, told.stderr
    assert result.read_bytes() == b"\x02\x01"
    assert cli("run", f"{forms}::leave", "--code", "7").returncode == 7


def test_run_calls_a_method_of_an_instance(forms: Path):
    result = forms.with_name("result")
    words = ("--factor=3", "--name", "a", "--x", "1.5", "--no-loud")
    told = cli("run", "-w", str(result), f"{forms}::Model.scale", *words)
    assert told.returncode == 0, told.stderr
    assert result.read_text() == "a 4.5 False"
    told = cli("run", f"{forms}::Model", "--help")
    assert told.returncode == 0
    assert "--name NAME" in told.stdout
    told = cli("run", f"{forms}::Model")
    assert told.returncode == 2
    assert "required: --name" in told.stderr


@pytest.mark.parametrize("engine_name", ["process"], indirect=True)
def test_run_passes_all_words_and_says_what_has_no_effect(forms: Path):
    told = cli("run", "--detach", "-e", "main", str(forms), "a", "--b", "-q")
    assert told.returncode == 0, told.stderr
    assert told.stdout == "('a', '--b', '-q')\n"
    assert told.stderr.count("--detach does nothing here: containers end with") == 1
    assert told.stderr.count("--env does nothing here: ") == 1
    told = cli("run", "-w", "result", f"{forms}::words", cwd=forms.parent)
    assert told.returncode == 1
    assert "--write-result needs a str or bytes, but int was returned" in told.stderr
    told = cli("run", "-w", "no/such/result", f"{forms}::double", "--x=1", cwd=forms.parent)
    assert told.returncode == 1
    assert "the result can't be written to no/such/result: No such file" in told.stderr


def test_run_finds_a_module_by_its_dotted_name(forms: Path):
    package = forms.parent / "project"
    package.mkdir()
    for name in ("beside.py", "script.py"):
        forms.with_name(name).rename(package / name)
    (package / "__init__.py").write_text("")
    (package / "script.py").write_text(FORMS.replace("import beside", "from . import beside"))
    told = cli("run", "-m", "project.script::double", "--x", "4", cwd=forms.parent)
    assert (told.returncode, told.stdout) == (0, "doubling 4\n"), told.stderr
    told = cli("run", "-m", "project.nope", cwd=forms.parent)
    assert told.returncode == 1
    assert told.stderr.startswith("lifecycle-magic: no module named project.nope can be found in ")
    told = cli("run", "project.script", cwd=forms.parent)
    assert "Fix: give the path of a Python script, or -m project.script" in told.stderr


# --- what other processes run --------------------------------------------------------------------


def test_ps_and_logs_see_what_another_process_runs(script: Path):
    with waiting(script) as run:
        table = cli("ps").stdout
        (line,) = [line for line in table.splitlines() if line.endswith(f" {run.pid}")]
        name, engine = line.split()[1], os.environ["LIFECYCLE_MAGIC_ENGINE"]
        assert line.split()[0] == "Model"
        assert line.split()[2:4] == ["running", engine]
        assert cli("logs", name).stdout == "waiting\n"
        assert "waiting\n" in cli("logs", "Model").stdout
        words = [*COMMAND, "logs", "Model", "--follow"]
        follower = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert follower.stdout is not None
        while follower.stdout.readline() != "waiting\n":
            assert follower.poll() is None
        interrupt(run)
    followed, _ = follower.communicate(timeout=60)
    assert "closed after 0 calls\n" in followed  # by its exit hook, to its end
    assert follower.returncode == 0
    assert name not in cli("ps").stdout
    gone = cli("logs", name)
    assert "closed after 0 calls" in gone.stdout
    assert f"{name} has exited" in gone.stderr
    history = cli("history", "-n", "1").stdout
    assert f"[{name}]" in history
    assert "close()  ok in" in history


@pytest.mark.parametrize("engine_name", ["process"], indirect=True)
def test_logs_of_a_build_are_there_when_the_script_that_built_has_ended(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import lifecycle_magic as lm\n"
        "app = lm.App(image=lm.Image.debian_slim().run_commands('seq 60'))\n"
        "@app.function()\n"
        "def logged(): ...\n"
        "@app.local_entrypoint()\n"
        "def main(): logged.remote()\n"
    )
    assert cli("run", str(script)).returncode == 0
    assert "\n1\n2\n3\n" in cli("logs", "logged", "--build").stdout
    assert cli("logs", "logged", "--build", "-n", "2").stdout.startswith("60\n--- done after ")
    assert "was built yet" in cli("logs", "nobody", "--build").stderr


def test_logs_of_something_unknown_is_an_error():
    told = cli("logs", "nobody")
    assert told.returncode == 1
    assert "no class or container is named 'nobody'" in told.stderr


def test_doctor_finds_the_engine_that_is_used():
    told = cli("doctor")
    assert told.returncode == 0
    engine = os.environ["LIFECYCLE_MAGIC_ENGINE"]
    assert f"ok    chosen engine   {engine}" in told.stdout


def test_prune_asks_first():
    told = cli("prune", given="n\n")
    assert told.returncode == 0
    assert "[y/N]" in told.stdout
    assert "nothing was removed" in told.stdout


@pytest.mark.parametrize("engine_name", ["process"], indirect=True)
def test_prune_removes_images_that_nothing_runs_on(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """On the process engine, whose images belong to one state; Docker's belong to everybody."""
    with tempfile.TemporaryDirectory(prefix="lm-") as state:
        monkeypatch.setenv("LIFECYCLE_MAGIC_STATE", state)
        with waiting(script) as run:
            told = cli("prune", "-y")
            assert (told.returncode, told.stdout) == (0, "nothing to remove\n")
            interrupt(run)
        told = cli("prune", "-y")
        assert told.stdout.startswith("process: removed image ")
        assert cli("prune", "-y").stdout == "nothing to remove\n"
        assert cli("run", f"{script}::main").returncode == 0


def test_a_reader_that_leaves_early_is_no_traceback():
    shell = f"{sys.executable} -m lifecycle_magic doctor | true"
    told = subprocess.run(["sh", "-c", shell], capture_output=True, text=True)
    assert "Traceback" not in told.stderr


def test_a_pool_left_running_by_the_script_s_own_code_is_ended_too(script: Path):
    script.write_text(
        SCRIPT
        + textwrap.dedent(
            """
            @app.local_entrypoint()
            def spawns():
                with app.run():
                    print(Model().double.spawn(1).get())
                print("after the run")
                print(Model().double.remote(2))
            """
        )
    )
    told = cli("run", f"{script}::spawns")
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[-3:] == ["after the run", "doubling 2", "4"]
    assert told.stderr.count("closed after 1 calls") == 2
