"""A kernel in a container that is stopped: the container ends after every ``exit``, not before."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import docker
import pytest
from kernel.outer import SERVER, WITHOUT_EXTENSION, outer

pytestmark = [pytest.mark.docker, pytest.mark.process]

DRAIN = (sys.executable, "-m", "lifecycle_magic", "drain")
SECONDS = {"Quick": 0.2, "Slow": 3, "Slower": 8}

CELL = """
import pathlib, time
import lifecycle_magic as lm
app = lm.App("outer")
""" + "".join(
    f"""
@app.cls()
class {name}:
    @lm.enter()
    def load(self):
        self.x = 20

    @lm.method()
    def add(self, y):
        return self.x + y

    @lm.exit()
    def close(self):
        time.sleep({seconds})
        pathlib.Path("/out/{name}").write_text("done")

print({name}().add.remote(1))
"""
    for name, seconds in SECONDS.items()
)

# As docs/guides/containers.md has it.
ENTRYPOINT = """
{server} &
server=$!
trap 'kill "$server"' TERM INT
wait "$server"
wait "$server"
exec {drain} --timeout 30
"""


def finished(out: Path) -> set[str]:
    return {path.name for path in out.iterdir() if path.read_text() == "done"}


@pytest.mark.slow
@pytest.mark.parametrize("user", [0, 1000])
@pytest.mark.parametrize("way", ["server", "entrypoint"])
def test_exit_hooks_finish_when_the_container_around_the_kernel_is_stopped(
    need_docker: docker.DockerClient, tmp_path: Path, way: str, user: int
) -> None:
    command = [*SERVER]
    if way == "entrypoint":
        server = shlex.join([*SERVER, *WITHOUT_EXTENSION])
        command = ["sh", "-c", ENTRYPOINT.format(server=server, drain=shlex.join(DRAIN))]
    with outer(need_docker, tmp_path / "out", command, user=user) as one:
        assert one.cell(CELL).split()[-3:] == ["21", "21", "21"]
        one.stop()
        assert finished(one.out) == {*SECONDS}, one.log()


@pytest.mark.slow
def test_drain_ends_living_kernels_and_reports_what_did_not_end(
    need_docker: docker.DockerClient, tmp_path: Path
) -> None:
    with outer(need_docker, tmp_path / "out", [*SERVER], user=1000) as one:
        one.cell(CELL)
        code, told = one.run(*DRAIN, "--timeout", "1")
        assert code == 1
        assert "asked process" in told
        assert "Slower" in told
        assert "still runs" in told
        code, told = one.run(*DRAIN)
        assert (code, finished(one.out)) == (0, {*SECONDS}), told
        took = [float(one) for one in re.findall(r"its exit took (\d+\.\d) s", told)]
        assert max(took) >= SECONDS["Slower"], told  # on a busy machine it takes longer
        assert one.run(*DRAIN) == (0, "")


# --- words --------------------------------------------------------------------------------------

IDLE = ["sleep", "600"]

HEAD = """
import lifecycle_magic as lm
app = lm.App("outer")

@app.cls()
class Model:
    @lm.method()
    def eat(self, mb):
        return len(bytearray(b"x") * (mb << 20))

    @lm.method()
    def load(self):
        import _ctypes, importlib.machinery, importlib.util, shutil
        path = shutil.copy(_ctypes.__file__, ".")
        loader = importlib.machinery.ExtensionFileLoader("_ctypes", path)
        importlib.util.module_from_spec(importlib.util.spec_from_loader("_ctypes", loader))

@app.cls()
class Other:
    @lm.method()
    def echo(self, x):
        return x

def shown(call, *args):
    try:
        print(call(*args))
    except BaseException as error:
        print(type(error).__name__, error, *getattr(error, "__notes__", ()))
"""


def test_the_memory_limit_of_the_container_around_is_named_as_such(
    need_docker: docker.DockerClient, tmp_path: Path
) -> None:
    with outer(need_docker, tmp_path / "out", IDLE, user=1000, mem_limit="300m") as one:
        told = one.python(HEAD + "shown(Model().eat.remote, 600)")
    assert told.startswith("ContainerDied")
    assert "the container around this kernel has 300 MiB in all" in told
    assert "memory=)" in told, "the outer container's"
    assert "give it more with memory=" not in told


def test_a_reached_limit_on_processes_is_a_sentence(
    need_docker: docker.DockerClient, tmp_path: Path
) -> None:
    with outer(need_docker, tmp_path / "out", IDLE, user=1000) as one:
        one.python(HEAD + "shown(Other().echo.remote, 1)")  # its image is there now
        for limit in (4, 6, 9):
            command = ["docker", "update", "--pids-limit", str(limit), str(one.container.id)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            told = one.python(HEAD + "shown(Other().echo.remote, 2)")
            if told == "2\n":
                break  # as few will do
            assert f"the container around this kernel allows {limit}" in told
            assert "Traceback" not in told
        else:
            raise AssertionError(f"not even {limit} will do: {told}")


def test_a_library_that_a_noexec_mount_keeps_from_loading_is_explained(
    need_docker: docker.DockerClient, tmp_path: Path
) -> None:
    with outer(need_docker, tmp_path / "out", IDLE, user=1000, exec_home=False) as one:
        told = one.python(HEAD + "shown(Model().load.remote)")
        _, found = one.run(sys.executable, "-m", "lifecycle_magic", "doctor")
    assert told.startswith("ImportError")
    assert "mounted noexec" in told
    assert "LIFECYCLE_MAGIC_STATE" in told
    assert "compiled packages can't be loaded" in found


def test_doctor_says_what_permits_a_bubblewrap_that_is_installed_and_forbidden(
    need_docker: docker.DockerClient, need_bwrap: str, tmp_path: Path
) -> None:
    libraries = subprocess.run(["ldd", need_bwrap], capture_output=True, text=True, check=True)
    paths = [word for word in libraries.stdout.split() if word.startswith("/") and "cap" in word]
    binds = {need_bwrap: "/usr/bin/bwrap"} | {path: path for path in paths}
    with outer(need_docker, tmp_path / "out", IDLE, user=1000, binds=binds) as one:
        _, found = one.run(sys.executable, "-m", "lifecycle_magic", "doctor")
    assert "is installed but not permitted here" in found
    assert "seccomp=unconfined" in found
    assert "install bubblewrap" not in found
