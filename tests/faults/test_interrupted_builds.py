"""Interrupting a cell whose call builds the class's image: nothing goes on behind it."""

from __future__ import annotations

import contextlib
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import answering
import psutil
import pytest
from kernel.harness import CellFailed, Diary, OwnKernel, own_kernel, preamble, wait_for

pytestmark = [pytest.mark.kernel]

TELL = """
from lifecycle_magic.session import session
from lifecycle_magic.lifecycle.states import BuildStep

def tell(event):
    if isinstance(event, BuildStep) and event.status == "output" and event.text.strip() == "begun":
        note("begun")

session.current().bus.subscribe(tell)
"""

COMMAND = """
@app.cls(image=lm.Image.debian_slim().run_commands("echo begun; sleep 999; : {mark}"), **options)
class Model(Base):
    @lm.method()
    def hello(self, x):
        return x
"""

HOOK = """
@app.cls(image=lm.Image.debian_slim().env({{"MARK": "{mark}"}}), **options)
class Model(Base):
    @lm.build()
    def bake(self):
        note("begun")
        while os.path.exists(OUT + "/hold"):
            time.sleep(0.02)

    @lm.method()
    def hello(self, x):
        return x
"""

LEFT = """
engine = session.current().engine({engine!r})
mine = [c.name for c in engine.containers()
        if c.labels.get("lifecycle-magic.session") == session.current().id]
print(len(mine))
"""


def runs(mark: str) -> bool:
    """Whether a container or a process has the mark in its command."""
    with answering.client() as client:
        for one in () if isinstance(client, str) else client.api.containers(all=True):
            if mark in one["Command"]:
                return True
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(mark in word for word in process.cmdline()):
                return True
    return False


def interrupt(kernel: OwnKernel, diary: Diary) -> None:
    cell = kernel.begin("Model().hello.remote(1)")
    diary.wait("begun")
    kernel.interrupt()
    with pytest.raises(CellFailed) as failed:
        kernel.outcome(cell)
    assert failed.value.name == "KeyboardInterrupt"


def test_an_interrupt_of_the_first_call_ends_the_command_that_builds_its_image(
    kernel: OwnKernel, engine: str, diary: Diary
) -> None:
    mark = secrets.token_hex(8)
    kernel.run(preamble(engine, diary))
    kernel.run(TELL)
    kernel.run(COMMAND.format(mark=mark))
    interrupt(kernel, diary)
    wait_for(lambda: not runs(mark), "the end of the command")
    assert kernel.containers("Model") == []


def test_an_interrupt_of_the_first_call_ends_its_build_hook_and_the_next_call_runs_it_again(
    kernel: OwnKernel, engine: str, diary: Diary
) -> None:
    hold = diary.folder / "hold"
    hold.touch()
    kernel.run(preamble(engine, diary))
    kernel.run(TELL)
    kernel.run(HOOK.format(mark=secrets.token_hex(8)))
    interrupt(kernel, diary)
    left = LEFT.format(engine="docker" if engine == "docker" else "process")
    wait_for(lambda: kernel.run(left).strip() == "0", "the end of the hook's container")
    hold.unlink()
    assert kernel.run("print(Model().hello.remote(5))").strip() == "5"
    assert diary.events() == ["begun", "begun", "entered"]
    kernel.run("app.stop()")


def test_a_command_that_builds_an_image_does_not_outlive_its_kernel(
    engine: str, diary: Diary, tmp_path: Path
) -> None:
    mark = secrets.token_hex(8)
    child = f"python3 -c 'import time; time.sleep(999)' {mark}"
    with own_kernel(tmp_path / "tmp") as kernel:
        kernel.run(preamble(engine, diary))
        kernel.run(TELL)
        kernel.run(COMMAND.format(mark=mark).replace("sleep 999", child))
        kernel.begin("Model().hello.remote(1)")
        diary.wait("begun")
        assert runs(mark)
        kernel.kill()
        wait_for(lambda: not runs(mark), "the end of the command")


STEP = """
import sys
import lifecycle_magic as lm

command = "touch {folder}/begun; while :; do sleep 0.05; done"
image = lm.Image.debian_slim().run_commands(
    command, secrets=[lm.Secret.from_dict({{"TOKEN": "12345678"}})],
    volumes={{"{folder}": lm.Volume.from_path("{folder}")}},
)
app = lm.App(image=image, engine="docker")

@app.function()
def one():
    return 1
"""

WAIT = """
with app.run():
    one.remote()
"""

END = """
import os, threading, time

app.run().__enter__()
threading.Thread(target=one.remote, daemon=True).start()
while not os.path.exists("{folder}/begun"):
    time.sleep(0.02)
sys.exit(3)
"""


def step_containers(folder: Path) -> dict[str, str]:
    """The containers that run the step of a test, and their states."""
    with answering.client() as client:
        assert not isinstance(client, str)
        found = client.api.containers(all=True, filters={"label": "lifecycle-magic.step"})
        return {
            one["Id"]: one["State"]
            for one in found
            if any(mount["Source"] == str(folder) for mount in one["Mounts"])
        }


@pytest.mark.usefixtures("need_docker")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_container_of_a_step_does_not_outlive_the_script_that_waits_for_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "volume"
    folder.mkdir()
    script = tmp_path / "script.py"
    script.write_text(STEP.format(folder=folder) + WAIT)
    running = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE)
    wait_for((folder / "begun").exists, "the beginning of the step")
    running.send_signal(number)
    running.communicate(timeout=60)
    wait_for(lambda: "running" not in step_containers(folder).values(), "the end of the step")
    if number != signal.SIGINT:  # no code of the script's process ran any more
        script.write_text("import lifecycle_magic as lm; lm.App(engine='docker').run().__enter__()")
        look = "from lifecycle_magic.session import session; s = session.current(); "
        look += "s.engine('docker'); from lifecycle_magic.session.sweep import sweep; "
        look += "from lifecycle_magic.host.paths import state_root; sweep(state_root(), s)"
        subprocess.run([sys.executable, "-c", look], check=True, timeout=60)
    wait_for(lambda: not step_containers(folder), "the removal of the step's container")


@pytest.mark.usefixtures("need_docker")
def test_a_script_that_ends_meanwhile_removes_the_container_of_a_step(tmp_path: Path) -> None:
    folder = tmp_path / "volume"
    folder.mkdir()
    script = tmp_path / "script.py"
    script.write_text(STEP.format(folder=folder) + END.format(folder=folder))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, timeout=60)
    assert done.returncode == 3, done.stderr
    wait_for(lambda: not step_containers(folder), "the removal of the step's container")
