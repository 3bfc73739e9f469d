"""Folders that a container's root makes in its run folder go with the container."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import docker
import pytest
from engine.work import wait_for
from kernel.users import User, some_user

pytestmark = [pytest.mark.docker]

PLANTING = """
    import json, os, sys
    import lifecycle_magic as lm

    app = lm.App("planting")

    @app.cls()
    class Planting:
        @lm.method()
        def plant(self):
            run = open("/proc/1/cmdline").read().split(chr(0))[-2]
            for name in ("planted", "caf" + chr(0xdce9), "mine"):
                os.makedirs(f"{run}/{name}/inner")
                open(f"{run}/{name}/inner/file", "w").close()
                for path in (f"{run}/{name}/inner", f"{run}/{name}"):
                    if path != f"{run}/mine":
                        os.chown(path, 0, 0)
                        os.chmod(path, 0o700)
            return os.stat(f"{run}/planted").st_uid

    if __name__ == "__main__":
        from lifecycle_magic.session import session
        owner = Planting().plant.remote()
        [one] = session.current().containers()
        folder = str(one.plan.launch.run_dir)
        print(json.dumps([owner, one.name, folder]), flush=True)
        if sys.argv[1] == "killed":
            os.kill(os.getpid(), 9)
        app.stop()
        session.wait_gone([one])
        left = [path for path in os.listdir(os.path.dirname(folder)) if one.name in path]
        print(json.dumps(left), flush=True)
"""


def run_as(user: User, home: Path, *command: str) -> str:
    """Run Python as a user. Return what it printed."""
    env = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "LIFECYCLE_MAGIC_STATE": str(home / "s"),
        "LIFECYCLE_MAGIC_ENGINE": "docker",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    done = subprocess.run(
        [*user.prefix, sys.executable, *command],
        cwd=home,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, -9), done.stderr
    return done.stdout


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_folders_of_a_container_s_root_go_with_it(
    need_docker: docker.DockerClient, end: str
) -> None:
    with some_user() as user, tempfile.TemporaryDirectory(prefix="lm-h-") as folder:
        home = user.own(Path(folder))
        script = home / "planting.py"
        script.write_text(textwrap.dedent(PLANTING))
        first, *rest = run_as(user, home, str(script), end).splitlines()
        owner, name, run_dir = json.loads(first)
        assert owner == 0
        if end == "stopped":
            assert [json.loads(line) for line in rest] == [[]]
            return
        wait_for(
            lambda: name in run_as(user, home, "-m", "lifecycle_magic", "history"),
            "the end of the container in the history",
        )
        assert not Path(run_dir).parent.exists()
