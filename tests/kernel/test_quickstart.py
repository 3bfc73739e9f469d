"""The quickstart notebook as a reader meets it: run from top to bottom, and then once more."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from kernel.harness import path_without_bwrap, wait_for
from kernel.notebook_file import run_notebook, shown_by

SERVED = 360 + 200 * 5 + 5  # the held-out images, the timed calls, and those after the edit

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("quickstart"),
]


@dataclass(frozen=True)
class Run:
    """One execution: what each code cell showed as text, and how many pictures there were."""

    printed: tuple[str, ...]
    pictures: int

    @property
    def last(self) -> str:
        return self.printed[-1].strip()

    def find(self, pattern: str) -> re.Match[str]:
        found = re.search(pattern, "\n".join(self.printed))
        assert found is not None, f"{pattern!r} is not in {self.printed}"
        return found


@dataclass(frozen=True)
class Runs:
    """Two executions in one folder, and the counts that their ``exit`` hooks left there."""

    first: Run
    second: Run
    counts: list[int]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("process", marks=pytest.mark.process),
        pytest.param("plain", marks=pytest.mark.process),
    ],
)
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The notebook twice on one engine; "plain" is the process engine without bubblewrap."""
    environment: dict[str, str] = {}
    if request.param == "docker":
        request.getfixturevalue("need_docker")
    elif request.param == "process":
        request.getfixturevalue("need_bwrap")
    else:
        environment["PATH"] = path_without_bwrap()
    environment["LIFECYCLE_MAGIC_ENGINE"] = "docker" if request.param == "docker" else "process"
    # A name with a blank, as folders of notebooks have.
    folder = tmp_path_factory.mktemp("my notebooks")
    counts = folder / "served" / "counts.txt"

    def written(times: int) -> list[int]:
        """The counts, once ``times`` containers have run their ``exit``."""

        def there() -> list[int] | None:
            lines = counts.read_text().splitlines() if counts.exists() else []
            return [int(line) for line in lines] if len(lines) == times else None

        found: list[int] = wait_for(there, f"the count of run {times} in {counts}")
        return found

    first = _execute(folder, environment)
    written(1)
    second = _execute(folder, environment)
    return Runs(first, second, written(2))


def _execute(folder: Path, environment: dict[str, str]) -> Run:
    notebook = run_notebook("quickstart", folder, **environment)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    return Run(
        printed=tuple(shown_by(cell) for cell in cells),
        pictures=sum("image/png" in output.get("data", {}) for output in outputs),
    )


def test_the_classifier_reads_held_out_digits(runs: Runs) -> None:
    right, total = map(int, runs.first.find(r"(\d+) of (\d+) right").groups())
    assert total == 360
    assert right >= 0.9 * total


def test_the_image_keeps_what_build_trained(runs: Runs) -> None:
    pattern = r"\d+ of \d+ right"
    assert runs.second.find(pattern).group() == runs.first.find(pattern).group()
    card = runs.second.find(r"Digits: ready(.|\n)*?load\(\)").group()
    assert "train" not in card
    assert "pip install" not in card


def test_a_picture_shows_some_of_them(runs: Runs) -> None:
    assert runs.first.pictures == 1


def test_an_edited_method_runs_on_the_live_instance(runs: Runs) -> None:
    assert runs.first.find(r"predict\(\) reloaded")
    assert runs.first.find(rf"5 more, {SERVED} in all")


def test_the_first_run_finds_nothing_and_the_second_what_the_firsts_exit_wrote(runs: Runs) -> None:
    assert runs.first.last == "no run before this one: run the notebook again"
    assert runs.second.last == f"the run before this one served {SERVED} images"


def test_exit_runs_once_for_each_run(runs: Runs) -> None:
    assert runs.counts == [SERVED, SERVED]
