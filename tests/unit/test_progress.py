"""What a card shows of a deployment, from the events of its build and its containers."""

from __future__ import annotations

import pytest

from lifecycle_magic.decorators import hooks
from lifecycle_magic.engines.output_tail import MAX_LINES
from lifecycle_magic.lifecycle.states import BuildStep, LogLine, Notice, State, Transition
from lifecycle_magic.services.deployment_changes import Change, changed, headline
from lifecycle_magic.spec.class_spec import ClassSpec
from lifecycle_magic.spec.options import Options
from lifecycle_magic.spec.reading import read_class
from lifecycle_magic.ui.deployment import DeploymentProgress, StepRow


def step(status: str, text: str, at: float, *, number: int = 1, cls: str = "Model") -> BuildStep:
    return BuildStep(cls, number, 3, status, text, at)  # type: ignore[arg-type]


def move(container: str, previous: State, state: State, at: float, cls: str = "Model"):
    return Transition(container, cls, previous, state, "", at)


@pytest.fixture
def progress() -> DeploymentProgress:
    return DeploymentProgress("Model", 100.0, enter=("load", "connect"), exit=("close",))


def start(progress: DeploymentProgress, container: str, at: float) -> None:
    progress.take(move(container, State.BUILDING, State.STARTING, at))
    progress.take(move(container, State.STARTING, State.ENTERING, at + 1))
    progress.take(move(container, State.ENTERING, State.IDLE, at + 3))


def test_a_step_is_one_row_from_its_beginning_to_its_end(progress: DeploymentProgress):
    assert progress.take(step("running", "pip install six", 101.0))
    assert progress.view().rows == (StepRow("pip install six", "running"),)
    assert not progress.take(step("output", "Collecting six\n", 102.0))
    assert progress.view().rows == (StepRow("pip install six", "running", None, "Collecting six"),)
    assert progress.take(step("done", "pip install six", 104.5))
    assert progress.view().rows == (StepRow("pip install six", "done", 3.5),)


def test_a_step_that_was_there_already_has_a_row_of_its_own(progress: DeploymentProgress):
    progress.take(step("cached", "apt-get install git", 101.0))
    assert [(row.title, row.status) for row in progress.view().rows] == [
        ("apt-get install git", "cached")
    ]


def test_a_started_container_shows_its_start_and_its_enter_hooks(progress: DeploymentProgress):
    start(progress, "a", 101.0)
    assert progress.view().rows == (
        StepRow("container", "done", 1.0),
        StepRow("load(), connect()", "done", 2.0),
    )


def test_a_class_without_enter_shows_only_the_start():
    progress = DeploymentProgress("Model", 100.0)
    start(progress, "a", 101.0)
    assert progress.view().rows == (StepRow("container", "done", 1.0),)


def test_the_container_of_a_build_hook_is_no_row_of_its_own(progress: DeploymentProgress):
    progress.take(step("running", "train()", 101.0))
    start(progress, "hook", 102.0)
    progress.take(step("done", "train()", 109.0))
    progress.take(move("hook", State.IDLE, State.DRAINING, 110.0))
    assert progress.view().rows == (StepRow("train()", "done", 8.0),)


def test_a_previous_container_continues_after_the_end(progress: DeploymentProgress):
    start(progress, "new", 101.0)
    progress.take(move("old", State.IDLE, State.DRAINING, 104.0))
    progress.take(move("old", State.DRAINING, State.EXITING, 104.5))
    progress.end(105.0)
    assert progress.view().rows[-2:] == (
        StepRow("previous container: finishing its running calls", "done", 0.5),
        StepRow("previous container: close()", "note"),
    )
    assert progress.view().seconds == 5.0


def test_a_container_that_was_on_its_way_out_before_is_not_shown(progress: DeploymentProgress):
    assert not progress.take(move("old", State.DRAINING, State.EXITING, 101.0))
    assert not progress.take(move("old", State.EXITING, State.EXITED, 102.0))
    assert progress.view().rows == ()


def test_calls_of_a_warm_container_are_not_shown(progress: DeploymentProgress):
    start(progress, "a", 101.0)
    rows = progress.view().rows
    assert not progress.take(move("a", State.IDLE, State.BUSY, 105.0))
    assert not progress.take(LogLine("a", "Model", "stdout", "hello\n", 105.0))
    assert progress.view().rows == rows


def test_a_class_of_the_same_name_in_another_app_is_not_shown():
    progress = DeploymentProgress("Model", 100.0, service="cell/Model")
    theirs = BuildStep("Model", 1, 3, "running", "train()", 101.0, service="second/Model")
    ours = BuildStep("Model", 1, 3, "running", "load()", 101.0, service="cell/Model")
    assert not progress.take(theirs)
    assert progress.take(ours)
    assert progress.take(Notice("Model", "swept", 101.0, service="cell/Model"))
    assert not progress.take(Notice("Model", "kept", 101.0, service="second/Model"))
    assert progress.view().notices == ("swept",)
    assert progress.view().rows == (StepRow("load()", "running"),)


def test_other_classes_are_not_shown(progress: DeploymentProgress):
    assert not progress.take(step("running", "pip install six", 101.0, cls="Other"))
    assert not progress.take(Notice("Other", "capped", 101.0))
    assert progress.take(Notice(None, "engine: process", 101.0))
    assert progress.take(Notice("Model", "capped", 101.0))
    assert progress.view().notices == ("engine: process", "capped")
    assert progress.view().rows == ()


def test_a_line_that_a_step_overwrites_is_shown_in_its_last_state(progress: DeploymentProgress):
    progress.take(step("running", "one", 101.0))
    progress.take(step("output", "10 %\r20 %", 101.5))
    progress.take(step("output", "\r30 %", 101.6))
    assert progress.view().rows[0].detail == "30 %"


def test_a_failure_shows_the_last_lines_of_its_step(progress: DeploymentProgress):
    progress.take(step("running", "one", 101.0))
    progress.take(step("output", "of the first step\n", 101.5))
    progress.take(step("done", "one", 102.0))
    progress.take(step("running", "two", 102.0, number=2))
    for number in range(MAX_LINES + 5):
        progress.take(step("output", f"line {number}\n", 103.0, number=2))
    progress.take(step("output", "no newline", 103.0, number=2))
    progress.take(step("failed", "two", 104.0, number=2))
    progress.end(105.0, RuntimeError("two failed"))
    view = progress.view()
    assert view.status == "failed"
    assert view.tail[-2:] == (f"line {MAX_LINES + 4}", "no newline")
    assert len(view.tail) == MAX_LINES
    assert [row.status for row in view.rows] == ["done", "failed"]


def test_what_still_runs_when_an_error_ends_it_has_failed(progress: DeploymentProgress):
    progress.take(move("a", State.BUILDING, State.STARTING, 101.0))
    progress.take(move("a", State.STARTING, State.ENTERING, 102.0))
    progress.end(104.0, KeyboardInterrupt())
    assert progress.view().rows[-1] == StepRow("load(), connect()", "failed", 2.0)


def test_the_headline_names_the_current_step_and_then_the_result(progress: DeploymentProgress):
    progress.set_headline("ready")
    assert progress.view().headline == "looking for its image"
    progress.take(step("running", "one", 101.0))
    assert progress.view().headline == "building its image"
    progress.take(step("done", "one", 102.0))
    progress.take(move("a", State.BUILDING, State.STARTING, 103.0))
    assert progress.view().headline == "starting a container"
    progress.end(105.0)
    assert progress.view().headline == "ready"


# --- what a re-run says --------------------------------------------------------------------------


def model(size: int = 1, factor: int = 1, **options: object) -> ClassSpec:
    def helper() -> int:
        return size

    class Model:
        @hooks.enter()
        def load(self):
            self.size = helper()

        @hooks.method()
        def predict(self, x):
            return x * factor

    return read_class(Model, Options.make("Model", **options))


def test_a_swap_names_reloaded_and_kept_parts():
    told = headline(Change.SWAPPED, model(), model(factor=2))
    assert told == "predict() reloaded; the state that load() loaded is kept"


def test_a_replacement_names_the_change():
    told = headline(Change.REPLACED, model(), model(size=2))
    assert (
        told == "new containers, because helper() changed; the previous ones run their exit hooks"
    )


def test_a_replacement_names_options_and_never_their_values():
    old, new = model(env={"TOKEN": "hush"}), model(env={"TOKEN": "hush2"}, memory=512)
    told = headline(Change.REPLACED, old, new)
    assert "because env, memory changed" in told
    assert "hush" not in told


def test_an_option_that_keeps_containers_is_no_reason():
    told = headline(Change.REPLACED, model(timeout=3), model(timeout=4, cpu=1))
    assert "because cpu changed" in told


def test_a_requested_replacement_names_its_option():
    told = headline(Change.REPLACED, model(), model(), why="--fresh")
    assert told == "new containers, because of --fresh; the previous ones run their exit hooks"


def test_unchanged_and_new():
    assert headline(Change.UNCHANGED, model(), model()).startswith("unchanged")
    assert headline(Change.NEW, None, model()) == "ready"


def test_changed_parts_are_named_as_people_write_them():
    old = {"Model.load() (method)": "1", "K (constant)": "1", "gone (constant)": "1"}
    new = {"Model.load() (method)": "2", "K (constant)": "1", "f() (function)": "1"}
    assert changed(old, new, "Model") == ["load()", "f()", "gone"]


def test_what_changed_around_the_class_comes_before_its_own_parts() -> None:
    told = headline(Change.REPLACED, model(), model(size=2), around=("helpers.py",))
    assert told.startswith("new containers, because helpers.py, ")
    told = headline(Change.REPLACED, model(), model(), around=("the base image",))
    assert (
        told
        == "new containers, because the base image changed; the previous ones run their exit hooks"
    )
