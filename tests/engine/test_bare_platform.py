"""A kernel without what only Linux has, as on macOS: a class's whole life on Docker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import docker
import pytest

pytestmark = pytest.mark.docker

PROGRAM = """
import bare_platform

bare_platform.strip()

import os
import sys
from pathlib import Path

import lifecycle_magic as lm

app = lm.App("bare", engine="docker")
folder = sys.argv[1]


@app.cls(volumes={"/notes": lm.Volume.from_path(folder)})
class Model:
    @lm.enter()
    def load(self):
        self.word = "entered"

    @lm.method()
    def same(self, value):
        print("in the method")
        return self.word, value

    @lm.method()
    def count(self, most):
        yield from range(most)

    @lm.exit()
    def close(self):
        Path("/notes/exited").touch()


model = Model()
large = os.urandom(3 << 20)
assert model.same.remote(large) == ("entered", large)
assert list(model.same.map(range(5))) == [("entered", x) for x in range(5)]
assert list(model.count.remote_gen(3)) == [0, 1, 2]
assert model.same.spawn(2).get() == ("entered", 2)
app.stop()
assert os.path.exists(f"{folder}/exited")
print("done")
"""


def test_a_kernel_without_the_names_of_linux_does_all_the_same(
    need_docker: docker.DockerClient, tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    found = subprocess.run(
        [sys.executable, str(tmp_path / "program.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout.splitlines()[-1:] == ["done"], found.stderr
    assert "in the method" in found.stdout
