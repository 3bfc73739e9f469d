"""Programs that run a saved notebook from top to bottom, and a kernel of root without an engine."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import docker
import pytest
from conftest import missing
from kernel.harness import PATIENCE, kernel_environment, wait_for
from kernel.outer import SERVER, outer

pytestmark = [pytest.mark.kernel, pytest.mark.process]

CELLS = [
    "factor = 2",
    "import lifecycle_magic as lm\n%load_ext lifecycle_magic",
    """%%lifecycle_cls --volume "{folder}:{folder}"
class Model:
    @lm.method()
    def go(self, x):
        print("going")
        return factor * x

    @lm.method()
    def asks(self):
        return input("who? ")

    @lm.exit()
    def close(self):
        open("{folder}/exited", "w").close()
""",
    "Model().go.remote(21)",
    """try:
    Model().asks.remote()
except Exception as error:
    print(type(error).__name__, error)""",
]
COMMANDS = {
    "nbconvert": ["-m", "nbconvert", "--to", "notebook", "--execute", "--output", "out.ipynb"],
    "papermill": ["-m", "papermill", "--kernel", "python3", "-p", "factor", "3"],
}


@pytest.mark.parametrize("program", COMMANDS)
def test_a_program_runs_a_notebook_keeps_its_card_and_exit_runs(
    program: str, tmp_path: Path
) -> None:
    if importlib.util.find_spec(program) is None:
        missing(f"{program} is not installed: run `make install`")
    import nbformat  # takes a second, which no test that is only collected should cost

    cells = [nbformat.v4.new_code_cell(cell.format(folder=tmp_path)) for cell in CELLS]
    cells[0].metadata["tags"] = ["parameters"]
    book = nbformat.v4.new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
    )
    nbformat.write(book, tmp_path / "book.ipynb")
    command = [sys.executable, *COMMANDS[program], "book.ipynb"]
    if program == "papermill":
        command.append("out.ipynb")
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**kernel_environment(tmp_path / "tmp"), "LIFECYCLE_MAGIC_ENGINE": "process"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wait_for((tmp_path / "exited").exists, "what exit writes", PATIENCE)
    *_, declared, called, asked = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    card = _text(declared)
    assert card.startswith("✓ Model: ready"), card
    assert "going" in _text(called)
    assert str(21 * (3 if program == "papermill" else 2)) in _text(called)
    assert "this front end takes no input" in _text(asked), _text(asked)


def _text(cell: Any) -> str:
    return "\n".join(
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
    )


@pytest.mark.docker
def test_a_kernel_of_root_without_an_engine_says_what_runs_its_classes(
    need_docker: docker.DockerClient, tmp_path: Path
) -> None:
    """As hosted notebooks have it: root in a container, with no engine and no namespaces."""
    cell = """
import os
del os.environ["LIFECYCLE_MAGIC_ENGINE"]
get_ipython().run_line_magic("load_ext", "lifecycle_magic")
get_ipython().run_cell_magic("lifecycle_cls", "", '''
import lifecycle_magic as lm
class Model:
    @lm.method()
    def go(self, x):
        return 2 * x
''')
print(Model().go.remote(21))
"""
    with outer(need_docker, tmp_path / "out", [*SERVER]) as one:
        printed = one.cell(cell)
    assert "✓ Model: ready (process" in printed, printed
    assert "no Docker engine answers" in printed, printed
    assert printed.rstrip().endswith("42"), printed
