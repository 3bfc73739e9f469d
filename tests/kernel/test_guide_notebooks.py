"""The guides that are notebooks, on each engine and on real data.

``LIFECYCLE_MAGIC_GUIDES=full`` runs them as they stand, on both engines. Otherwise each runs on
one engine, and its cells tagged as parameters have small values.
"""

from __future__ import annotations

import contextlib
import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine.bridge import address
from kernel.harness import PATIENCE, OwnKernel, own_kernel, wait_for
from postgres import running

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SMALL = {
    "embeddings": "count = 96",
    "search": "costs, gammas, folds = [1, 10], [0.001, 0.01], 3",
}
ENGINES = {"embeddings": "process", "etl": "docker", "search": "docker"}
FULL = os.environ.get("LIFECYCLE_MAGIC_GUIDES") == "full"
BUILD_SECONDS = 300

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # On processes they share layers with the quickstart, whose image has scikit-learn too.
    pytest.mark.xdist_group("quickstart"),
]


def skip_unless_chosen(name: str, engine: str) -> None:
    if engine != ENGINES[name] and not FULL:
        pytest.skip("make soak runs it on both engines")


@contextlib.contextmanager
def ran(name: str, engine: str, tmp: Path, **environment: str) -> Iterator[tuple[OwnKernel, str]]:
    """Run a notebook in a kernel that then lives on; the kernel, and what the cells printed."""
    import nbformat  # takes a second, which no test that is only collected should cost

    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    environment |= {"LIFECYCLE_MAGIC_ENGINE": engine, "MPLBACKEND": "agg"}
    with own_kernel(tmp / "tmp", environment) as kernel:
        kernel.run(f"import os; os.makedirs({str(tmp)!r}, exist_ok=True); os.chdir({str(tmp)!r})")
        printed = []
        for cell in notebook.cells:
            if cell.cell_type != "code":
                continue
            is_parameters = "parameters" in cell.metadata.get("tags", ())
            source = SMALL[name] if is_parameters and not FULL else cell.source
            printed.append(kernel.run(source, BUILD_SECONDS))
        yield kernel, "\n".join(printed)


def test_sentences_are_found_by_meaning(engine_name: str, tmp_path: Path) -> None:
    skip_unless_chosen("embeddings", engine_name)
    with ran("embeddings", engine_name, tmp_path) as (kernel, printed):
        count = 10_000 if FULL else 96
        found = re.search(rf"{count} sentences in (\d+) batches, the largest of (\d+)", printed)
        assert found is not None, printed
        assert int(found[1]) < count
        assert 1 < int(found[2]) <= 32
        # What sentence-transformers computes with the same weights, to three digits.
        kernel.run(
            """
            assert vector.shape == (384,)
            right = [0.033242, 0.004406, -0.006277, 0.048379, -0.138702]
            assert abs(vector[:5] - right).max() < 1e-3, vector[:5]
            near, far = model.embed.map(["Someone has lunch.", "The share price fell."])
            assert vector @ near > 0.4 > 0.2 > vector @ far, (vector @ near, vector @ far)
            # A batch is padded, and a sentence in one has the vector that it has alone.
            alone = model.embed.remote(sentences[0])
            assert abs(alone - vectors[0]).max() < 1e-4, abs(alone - vectors[0]).max()
            """
        )
        questions = re.findall(r"^\d\.\d\d  \S+: .+", printed, re.MULTILINE)
        assert len(questions) == 6, printed


def test_the_connection_to_postgresql_closes_after_the_kernel_was_killed(
    engine_name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    skip_unless_chosen("etl", engine_name)
    if engine_name == "process":
        request.getfixturevalue("need_bwrap")
    host, here = (
        ("host.docker.internal", address()) if engine_name == "docker" else ("127.0.0.1",) * 2
    )
    with running(here) as database:
        url = database.url(host)
        with ran("etl", engine_name, tmp_path, DATABASE_URL=url) as (kernel, printed):
            assert "{2012: 366, 2013: 365, 2014: 365, 2015: 365}" in printed
            assert "there are no records of 1912" in printed
            assert re.search(r"^Jul +\d+ mm +2\d\.\d °C", printed, re.MULTILINE)
            assert database.ask("SELECT count(*) FROM days") == "1461"
            connected = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'weather'"
            assert database.ask(connected) == "1"
            assert database.ask("SELECT count(*) FROM runs WHERE ended IS NULL") == "1"
            container = kernel.container("Weather")
            kernel.kill()
            wait_for(lambda: database.ask(connected) == "0", "the end of the connection")
            assert database.ask("SELECT count(*) FROM runs WHERE ended IS NOT NULL") == "1"
            wait_for(lambda: not container.processes(), "the end of the container", PATIENCE)


def test_a_map_finds_the_parameters_that_grid_search_finds(
    engine_name: str, tmp_path: Path
) -> None:
    skip_unless_chosen("search", engine_name)
    with ran("search", engine_name, tmp_path) as (kernel, printed):
        lines = re.findall(r"^C=\S+ gamma=\S+: 0\.9\d+$", printed, re.MULTILINE)
        assert len(lines) == 2, printed
        assert "the same" in printed
        # Neither engine leaves a process of GridSearchCV's behind.
        kernel.run(textwrap.dedent("%lifecycle stop Digits"))
        assert kernel.containers("Digits") == []
