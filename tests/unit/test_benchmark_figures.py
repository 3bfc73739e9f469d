"""The arithmetic of the benchmarks: turns of contenders, met bounds, and the README's figures."""

from __future__ import annotations

import importlib
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module from the source tree, because the benchmarks are not installed."""
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.figures")


@pytest.fixture
def publish(figures: Any) -> Any:
    return importlib.import_module("benchmarks.publish")


def test_percentiles_are_of_all_that_was_measured(figures: Any) -> None:
    sample = figures.Sample("work", "us", tuple(float(n) for n in range(101)))
    assert (sample.p50, sample.p99) == (50.0, 99.0)


def test_one_measurement_is_its_own_percentile(figures: Any) -> None:
    sample = figures.Sample("work", "us", (3.0,))
    assert (sample.p50, sample.p99) == (3.0, 3.0)


def test_contenders_take_turns_and_the_first_turn_is_not_counted(figures: Any) -> None:
    turns: list[str] = []

    def contender(name: str) -> Any:
        def run(times: int) -> list[float]:
            turns.append(name)
            return [float(len(turns))] * times

        return run

    runs = {"a": contender("a"), "b": contender("b")}
    a, b = figures.alternate("work", runs, rounds=2, times=3).samples
    assert turns == ["a", "b"] * 3
    assert (a.who, a.seconds) == ("a", (3.0,) * 3 + (5.0,) * 3)
    assert (b.who, b.seconds) == ("b", (4.0,) * 3 + (6.0,) * 3)


def test_a_contender_that_is_not_able_is_missing_and_the_others_go_on(figures: Any) -> None:
    def unable(times: int) -> list[float]:
        raise figures.Unable("no threads")

    runs = {"a": unable, "b": lambda times: [1.0] * times}
    found = figures.alternate("work", runs, rounds=1, times=2)
    assert [(s.who, s.seconds) for s in found.samples] == [("b", (1.0, 1.0))]
    assert found.missing == ("work, a: no threads",)


def test_ratios_are_to_our_first_engine_at_the_same_work(figures: Any) -> None:
    found = figures.Figures(
        (
            figures.Sample("call", "process", (2.0,)),
            figures.Sample("call", "docker", (4.0,)),
            figures.Sample("call", "ray", (40.0,)),
            figures.Sample("other", "ray", (40.0,)),
        )
    )
    assert [found.ratio(sample) for sample in found.samples] == [0.5, 1.0, 10.0, None]


@pytest.mark.parametrize(("measured", "met"), [(0.9, True), (1.0, True), (1.1, False)])
def test_a_bound_is_met_up_to_its_limit(figures: Any, measured: float, met: bool) -> None:
    assert figures.Bound("at most a second", "us", measured, 1.0).met is met


def test_the_table_shows_samples_bounds_and_missing_contenders(figures: Any) -> None:
    found = figures.Figures(
        (figures.Sample("call", "us", (0.00004,) * 200),),
        (figures.Bound("call: quick", "us", 0.00004, 0.00003),),
        ("call of a peer: it is not here",),
    )
    lines = figures.table(found).splitlines()
    assert lines[0].split() == ["work", "who", "p50", "p99", "times", "ratio"]
    assert lines[2].split() == ["call", "us", "40", "us", "40", "us", "200"]
    assert lines[6].split() == ["call:", "quick", "us", "40", "us", "30", "us", "MISSED"]
    assert "not measured: call of a peer: it is not here" in lines
    assert lines[-2:] == ["0 of 1 bounds met", "  MISSED: call: quick (us)"]


def test_the_file_has_percentiles_and_bounds(figures: Any) -> None:
    found = figures.Figures(
        (figures.Sample("call", "us", (2.0, 2.0)),),
        (figures.Bound("call: quick", "us", 2.0, 3.0),),
    )
    told = json.loads(figures.as_json(found, {"cores": 2}))
    assert told["machine"] == {"cores": 2}
    assert told["samples"] == [
        {"work": "call", "who": "us", "p50": 2.0, "p99": 2.0, "times": 2, "ratio": None}
    ]
    assert told["bounds"] == [
        {"text": "call: quick", "who": "us", "measured": 2.0, "limit": 3.0, "met": True}
    ]
    assert told["missing"] == []


def results(figures: Any, seconds: float) -> Any:
    work = "echo 1 MB array"
    found = figures.Figures(
        (
            figures.Sample(work, "docker", (seconds,)),
            figures.Sample(work, "two warm copies", (seconds,)),
            figures.Sample(work, "ray", (1.0,)),
        ),
        (figures.Bound(f"{work}: at least 10 x faster than a Ray actor", "docker", seconds, 0.1),),
    )
    return json.loads(figures.as_json(found, {"cores": 2, "processor": "one"}))


def test_the_readme_counts_missed_bounds(figures: Any, publish: Any) -> None:
    assert "1 of the 1 bounds that the benchmarks set are missed" in publish.summary(
        results(figures, 0.5)
    )
    assert "no bound is missed" in publish.summary(results(figures, 0.01))


def test_the_page_names_a_missed_bound_and_why(figures: Any, publish: Any) -> None:
    text = publish.section(results(figures, 0.5))
    assert "**Missed**: 1 of the 1 bounds" in text
    assert "500 ms on docker, where 100 ms are allowed. Ray took 1.0 s" in text


def test_the_page_states_when_all_bounds_are_met(figures: Any, publish: Any) -> None:
    assert "All 1 bounds that the benchmarks set are met." in publish.section(
        results(figures, 0.01)
    )


def test_the_page_claims_nothing_of_bounds_that_were_not_measured(
    figures: Any, publish: Any
) -> None:
    told = {**results(figures, 0.01), "missing": ["ray: it is not here"]}
    text = publish.section(told)
    assert "All 1 bounds that were measured are met." in text
    assert "- ray: it is not here" in text


def test_the_page_has_values_of_libraries_nested_calls_and_many_containers(
    figures: Any, publish: Any
) -> None:
    crowd = f"kernel, {publish.resting.CROWD}"
    inside = f"container of {publish.resting.CROWD}"
    found = figures.Figures(
        (
            figures.Sample("echo 100 MB: Arrow table", "docker", (0.01,)),
            figures.Sample("echo 100 MB: Arrow table", "ray", (0.03,)),
            figures.Sample("no-op call, by where it begins", "docker: direct", (30e-6,)),
            figures.Sample("no-op call, by where it begins", "docker: nested", (90e-6,)),
            figures.Sample("adopt a kept container", "docker", (0.05,)),
        ),
        amounts=(
            figures.Amount("threads of the kernel, each container", crowd, 0.0, ""),
            figures.Amount("descriptors of the kernel, each container", crowd, 5.0, ""),
            figures.Amount("memory of the kernel, each container, PSS", crowd, 0.35, "MiB"),
            figures.Amount("memory of a container, PSS", inside, 17.0, "MiB"),
        ),
    )
    page = publish.section(json.loads(figures.as_json(found, {"cores": 2, "processor": "one"})))
    assert "| 100 MB: Arrow table | 10 ms |  | 30 ms |" in page
    assert "| no-op call, by where it begins | 30 µs | 90 µs |" in page
    assert "| adopt a kept container in a new kernel | 50 ms |  |" in page
    assert "5.0 descriptors, 0.0 threads and 0.35 MiB, and a container takes 17.0 MiB" in page


def test_the_plot_draws_a_bar_for_each_contender(figures: Any, publish: Any) -> None:
    picture = ElementTree.fromstring(publish.plot.draw(results(figures, 0.01)))
    bars = picture.findall("{http://www.w3.org/2000/svg}rect")
    assert [bar.get("class") for bar in bars] == ["ours", "least", "theirs"]


def test_readme_page_and_plot_are_those_of_the_results(publish: Any) -> None:
    measured = json.loads(publish.RESULTS.read_text())
    readme, page = publish.README.read_text(), publish.PAGE.read_text()
    assert publish.put(readme, publish.summary(measured)) == readme
    assert publish.put(page, publish.section(measured)) == page
    assert publish.plot.draw(measured) == publish.PLOT.read_text()
