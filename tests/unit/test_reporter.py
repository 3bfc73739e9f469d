"""The output of a script in a terminal."""

from __future__ import annotations

import io

from lifecycle_magic.lifecycle.states import BuildStep, Notice
from lifecycle_magic.ui.cli.reporter import Reporter


def test_every_step_is_reported_at_its_start_and_with_its_time_at_its_end() -> None:
    stream = io.StringIO()
    reporter = Reporter(stream)
    for number, status, text, seconds in (
        (1, "running", "pip install x", None),
        (1, "output", "Collecting x\n", None),
        (1, "done", "pip install x", 3.25),
        (2, "running", "make", None),
        (2, "cached", "make", 0.01),
        (3, "running", "bake()", None),
        (3, "failed", "bake()", 61.0),
    ):
        reporter.take(BuildStep("Model", number, 3, status, text, 1.0, seconds))  # type: ignore[arg-type]
    assert stream.getvalue().splitlines() == [
        "lifecycle-magic: Model: pip install x",
        "lifecycle-magic: Model: done after 3.2 s: pip install x",
        "lifecycle-magic: Model: make",
        "lifecycle-magic: Model: cached: make",
        "lifecycle-magic: Model: bake()",
        "lifecycle-magic: Model: failed after 1 min 1 s: bake()",
    ]


def test_a_notice_names_its_class_once() -> None:
    stream = io.StringIO()
    reporter = Reporter(stream)
    reporter.take(Notice("Model", "LIMIT changed", 1.0))
    reporter.take(Notice("Model", "Model: new containers, because LIMIT changed", 1.0))
    reporter.take(Notice(None, "engine: process", 1.0))
    assert stream.getvalue().splitlines() == [
        "lifecycle-magic: Model: LIMIT changed",
        "lifecycle-magic: Model: new containers, because LIMIT changed",
        "lifecycle-magic: engine: process",
    ]
