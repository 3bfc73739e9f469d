"""The arithmetic of the benchmarks: who takes turns with whom, and when a bound is met."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

FIGURES = Path(__file__).parents[2] / "benchmarks" / "figures.py"


@pytest.fixture(scope="module")
def figures() -> Any:
    """The module, by its path: the benchmarks are no part of what is installed."""
    spec = importlib.util.spec_from_file_location("benchmark_figures", FIGURES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


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
    a, b = figures.alternate("work", runs, rounds=2, times=3)
    assert turns == ["a", "b"] * 3
    assert (a.who, a.seconds) == ("a", (3.0,) * 3 + (5.0,) * 3)
    assert (b.who, b.seconds) == ("b", (4.0,) * 3 + (6.0,) * 3)


@pytest.mark.parametrize(("measured", "met"), [(0.9, True), (1.0, True), (1.1, False)])
def test_a_bound_is_met_up_to_its_limit(figures: Any, measured: float, met: bool) -> None:
    assert figures.Bound("at most a second", "us", measured, 1.0).met is met


def test_the_table_tells_samples_bounds_and_what_is_missing(figures: Any) -> None:
    found = figures.Figures(
        (figures.Sample("call", "us", (0.00004,) * 200),),
        (figures.Bound("call: quick", "us", 0.00004, 0.00003),),
        ("call of a peer: it is not here",),
    )
    lines = figures.table(found).splitlines()
    assert lines[0].split() == ["work", "who", "p50", "p99", "times"]
    assert lines[2].split() == ["call", "us", "40", "us", "40", "us", "200"]
    assert lines[6].split() == ["call:", "quick", "us", "40", "us", "30", "us", "missed"]
    assert lines[-1] == "not measured: call of a peer: it is not here"


def test_the_file_has_percentiles_and_bounds(figures: Any) -> None:
    found = figures.Figures(
        (figures.Sample("call", "us", (2.0, 2.0)),),
        (figures.Bound("call: quick", "us", 2.0, 3.0),),
    )
    told = json.loads(figures.as_json(found, {"cores": 2}))
    assert told["machine"] == {"cores": 2}
    assert told["samples"] == [{"work": "call", "who": "us", "p50": 2.0, "p99": 2.0, "times": 2}]
    assert told["bounds"] == [
        {"text": "call: quick", "who": "us", "measured": 2.0, "limit": 3.0, "met": True}
    ]
    assert told["missing"] == []
