"""The one record of build steps, which card, panel and terminal show."""

from __future__ import annotations

from typing import Any

from lifecycle_magic.building.build_steps import Build, Builds, StepProgress
from lifecycle_magic.lifecycle.states import BuildStep
from lifecycle_magic.ui.deployment import DeploymentProgress
from lifecycle_magic.ui.panel.facts import StepFacts


def step(
    status: Any, number: int = 1, text: str = "pip install six", at: float = 10.0, **more: Any
) -> BuildStep:
    return BuildStep("Model", number, 2, status, text, at, service="cell/Model", **more)


def test_a_step_has_its_last_line_while_it_runs_and_then_its_duration():
    build = Build()
    build.take(step("running"))
    assert build.take(step("output", text="Collecting\nsix\n\n")) == StepProgress(
        1, "pip install six", "running", 10.0, None, "six"
    )
    assert build.is_running
    build.take(step("done", at=13.0, seconds=2.5))
    build.take(step("cached", 2, "train()", at=14.0))
    assert build.steps == (
        StepProgress(1, "pip install six", "done", 10.5, 2.5),
        StepProgress(2, "train()", "cached", 14.0, 0.0),
    )
    assert build.total == 2
    assert not build.is_running


def test_a_step_without_a_duration_gets_it_from_the_times_of_its_events():
    build = Build()
    build.take(step("running"))
    done = build.take(step("done", at=13.5))
    assert done is not None
    assert done.seconds == 3.5


def test_a_step_that_is_tried_in_another_way_goes_on_from_its_begin():
    build = Build()
    build.take(step("running"))
    build.take(step("output", text="no match\n"))
    again = build.take(step("running", text="pip install --pre six", at=12.0))
    assert again == StepProgress(1, "pip install --pre six", "running", 10.0)


def test_a_failed_step_keeps_its_last_lines_and_the_next_build_begins_anew():
    build = Build()
    build.take(step("cached", 2, "train()"))
    build.take(step("running"))
    build.take(step("output", text="looking\nERROR: no match\n"))
    failed = build.take(step("failed", at=11.0))
    assert failed is not None
    assert failed.detail == "ERROR: no match"
    assert build.output.lines() == ["looking", "ERROR: no match"]
    build.take(step("running", at=20.0))
    assert build.steps == (StepProgress(1, "pip install six", "running", 20.0),)


def test_output_of_a_step_that_does_not_run_belongs_to_none():
    build = Build()
    assert build.take(step("output", text="early\n")) is None
    build.take(step("done"))
    assert build.take(step("output", text="late\n")) is None


def test_classes_have_builds_of_their_own():
    builds = Builds()
    builds.take(step("running"))
    assert builds.last("second/Model") == ((), 0)
    assert builds.last("cell/Model") == ((StepProgress(1, "pip install six", "running", 10.0),), 2)


def test_card_and_panel_show_the_same_of_the_same_events():
    events = [
        step("running"),
        step("output", text="Collecting six\n"),
        step("done", at=13.0),
        step("running", 2, "train()", at=14.0),
        step("output", 2, text="epoch 1\n"),
    ]
    builds, card = Builds(), DeploymentProgress("Model", 10.0, service="cell/Model")
    for event in events:
        builds.take(event)
        card.take(event)
        shown = [StepFacts.of(one) for one in builds.last("cell/Model")[0]]
        assert [(r.title, r.status, r.seconds, r.detail) for r in card.view().rows] == [
            (one.text, one.status, one.seconds, one.detail) for one in shown
        ]
