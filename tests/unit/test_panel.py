"""Messages of the panel and their times, without a browser and without an engine."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from lifecycle_magic.building.build_steps import Build, Builds
from lifecycle_magic.engines.base import Usage
from lifecycle_magic.lifecycle.history import HistoryEntry
from lifecycle_magic.lifecycle.logs import MAX_CHARACTERS, Logs
from lifecycle_magic.lifecycle.report import ExitHook
from lifecycle_magic.lifecycle.states import BuildStep, LogLine, Notice, State, Transition
from lifecycle_magic.secret import Secret
from lifecycle_magic.services.service import Service
from lifecycle_magic.session.session import Session
from lifecycle_magic.spec.options import Options
from lifecycle_magic.ui.panel import facts
from lifecycle_magic.ui.panel.feed import Feed
from lifecycle_magic.ui.panel.notices import MAX_NOTICE_CHARS, MAX_NOTICES, Notices
from lifecycle_magic.ui.panel.pace import LEASE_SECONDS, POLL_SECONDS, UPDATE_SECONDS, Pace
from lifecycle_magic.ui.panel.pages import Samples, Text

# --- pages ---------------------------------------------------------------------------------------


def test_an_addition_to_a_long_text_changes_only_the_small_page():
    text = Text(keep=1000, page=100)
    for n in range(195):
        text.add(f"line {n}\n")
    old = text.old
    text.add("one more\n")
    assert text.old is old
    assert text.new.endswith("one more\n")
    assert len(text.new) <= 100
    assert len(text.old) + len(text.new) <= 1100


def test_a_text_keeps_its_end_and_begins_with_a_whole_line():
    text = Text(keep=1000, page=100)
    for n in range(500):
        text.add(f"line {n}\n")
    whole = text.old + text.new
    assert whole.endswith("line 498\nline 499\n")
    assert whole.startswith("line ")
    assert len(whole) >= 500


def test_what_is_cut_is_counted_as_a_browser_counts_it():
    text = Text(keep=1000, page=100)
    whole = ""
    for n in range(300):
        text.add(f"{n} 😀\n")
        whole += f"{n} 😀\n"
    cut = whole.removesuffix(text.old + text.new)
    assert text.cut == len(cut.encode("utf-16-le")) // 2 > len(cut)


def test_a_text_without_lines_is_bounded_too():
    text = Text(keep=1000, page=100)
    text.add("x" * 5000)
    assert len(text.old) + len(text.new) <= 1000


def test_samples_move_to_the_old_page_and_the_oldest_go():
    samples = Samples(keep=6, page=2)
    for n in range(11):
        samples.add(n, {"a": Usage(n, n << 20)})
    assert samples.new == {"t": [10], "of": {"a": [10, 10]}}
    assert samples.old == {
        "t": [4, 5, 6, 7, 8, 9],
        "of": {"a": [4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]},
    }


def test_samples_of_one_that_came_later_have_gaps_and_of_one_that_went_are_forgotten():
    samples = Samples(keep=6, page=2)
    samples.add(1, {"a": Usage(1, 0)})
    samples.add(2, {"a": Usage(1, 0), "b": Usage(0.126, 3 << 20)})
    assert samples.new["of"]["b"] == [None, None, 0.13, 3]
    samples.add(3, {"b": Usage(0.5, 3 << 20)})
    assert samples.old["of"].keys() == {"b"}
    assert samples.new == {"t": [3], "of": {"b": [0.5, 3]}}


def test_a_sample_like_the_last_one_is_none():
    samples = Samples()
    samples.add(1, {"a": Usage(0.0, 100 << 20)})
    first = samples.new
    samples.add(3, {"a": Usage(0.01, 101 << 20)})
    samples.add(5, {"a": Usage(0.02, 100 << 20)})
    assert samples.new is first
    samples.add(7, {"a": Usage(0.5, 100 << 20)})  # it was idle until 5
    assert samples.new == {"t": [1, 5, 7], "of": {"a": [0.0, 100, 0.0, 100, 0.5, 100]}}


def test_slowly_growing_figures_are_reported():
    samples = Samples()
    for n in range(5):
        samples.add(2 * n, {"a": Usage(0.0, (100 + n) << 20)})
    assert samples.new["of"]["a"][1::2] == [100, 100, 102, 102, 104]


def test_where_nobody_looked_there_is_a_gap():
    samples = Samples()
    samples.add(100, {"a": Usage(0.0, 1 << 20)})
    samples.add(102, {"a": Usage(0.0, 1 << 20)})
    samples.add(202, {"a": Usage(0.0, 1 << 20)})
    assert samples.new == {"t": [100, 102, 202], "of": {"a": [0.0, 1, None, None, 0.0, 1]}}


# --- pace ----------------------------------------------------------------------------------------


def test_nothing_is_due_while_no_page_is_visible():
    pace = Pace()
    pace.dirty = True
    assert pace.due(0.0) is None
    pace.see("page", True, 0.0)
    assert pace.due(0.0) == 0.0
    pace.see("page", False, 1.0)
    assert pace.due(1.0) is None


def test_updates_keep_their_distance_and_a_look_at_nothing_new_is_rarer():
    pace = Pace()
    pace.see("page", True, 0.0)
    pace.start_update(0.0)
    assert pace.due(0.0) == POLL_SECONDS
    pace.dirty = True
    assert pace.due(0.1) == pytest.approx(UPDATE_SECONDS - 0.1)
    assert pace.due(1.0) == 0.0


def test_a_page_that_went_without_a_word_is_believed_for_one_lease():
    pace = Pace()
    pace.see("page", True, 0.0)
    assert pace.is_watched(LEASE_SECONDS - 1)
    assert not pace.is_watched(LEASE_SECONDS)


def test_no_lease_ends_while_a_cell_runs_and_each_has_time_to_be_renewed_after_it():
    pace = Pace()
    pace.see("page", True, 0.0)
    pace.hold(True, 1.0)
    assert pace.is_watched(1000.0)
    pace.hold(False, 1000.0)
    assert pace.is_watched(1000.0 + LEASE_SECONDS - 1)
    assert not pace.is_watched(1000.0 + LEASE_SECONDS)


def test_one_page_that_closes_leaves_the_others():
    pace = Pace()
    pace.see("one", True, 0.0)
    pace.see("two", True, 0.0)
    pace.see("one", False, 1.0)
    assert pace.is_watched(2.0)


# --- facts ---------------------------------------------------------------------------------------


def step(
    status: Any, number: int = 1, text: str = "pip install six", at: float = 10.0, **more: Any
):
    more.setdefault("service", "cell/Model")
    return BuildStep("Model", number, 2, status, text, at, **more)


def test_a_step_is_shown_in_one_line():
    build = Build()
    build.take(step("running", text="pip install \\\n  six"))
    shown = build.take(step("output", text="Collecting\n\x1b[31msix\x1b[0m\n\n"))
    assert shown is not None
    assert facts.StepFacts.of(shown) == facts.StepFacts(
        "pip install \\ six", "running", 10.0, None, "six"
    )


def test_notices_are_bounded_in_number_and_length():
    notices = Notices()
    for n in range(50):
        notices.take(Notice("Model", f"{n} " + "x" * 10_000, 1.0, "warning"))
    assert len(notices.latest) == MAX_NOTICES
    assert notices.latest[-1].text.startswith("Model: 49 ")
    assert all(len(said.text) <= MAX_NOTICE_CHARS for said in notices.latest)


def test_no_value_of_a_secret_or_of_the_environment_is_shown():
    options = Options.make(
        "Model",
        env={"TOKEN": "hunter2"},
        secrets=[Secret.from_dict({"KEY": "hunter3"})],
        cpu=2,
        scaledown_window=90,
    )
    told = facts.option_summary(options)
    assert told == ("cpu=2", "scaledown_window=90", "env=TOKEN", "secrets=1")


def entry(name: str, **more: Any) -> HistoryEntry:
    given: dict[str, Any] = {
        "session": "s", "container": name, "cls": "Model", "engine": "process", "state": "failed",
        "why": "it was killed", "began": 1.0, "ended": 2.0, "service": "cell/Model",
    }  # fmt: skip
    return HistoryEntry(**given | more)


def test_the_last_exited_containers_are_shown_with_reason_and_last_lines():
    gone = [entry(f"c{n}") for n in range(20)]
    gone[-1] = dataclasses.replace(
        gone[-1], tail="x" * 9000 + "\nlast", hooks=(ExitHook("close", 1.0, "Traceback"),)
    )
    told, lives = facts.containers([], gone, {"cell/Model"}, {}, 0.0, {})
    assert [one.name for one in told] == ["c19", "c18", "c17", "c16", "c15"]
    assert told[0].tail.endswith("\nlast")
    assert len(told[0].tail) <= facts.TAIL_CHARS
    assert told[0].exits == (facts.Exit("close", 1.0, "Traceback"),)
    assert lives["c19"].why == "it was killed"


def test_one_that_is_gone_is_not_told_for_a_class_that_is_no_more():
    assert facts.containers([], [entry("c", service="cell/Gone")], set(), {}, 0.0, {}) == ((), {})


def test_classes_of_one_name_do_not_share_builds_ends_or_logs():
    builds, logs = Builds(), Logs()
    builds.take(step("running", service="second/Model"))
    assert builds.last("cell/Model") == ((), 0)
    assert len(builds.last("second/Model")[0]) == 1
    gone = [entry("c1"), entry("c2", service="second/Model")]
    told, _ = facts.containers([], gone, {"cell/Model", "second/Model"}, {}, 0.0, {})
    assert {one.name: one.cls for one in told} == {"c1": "cell/Model", "c2": "second/Model"}
    logs.take(line("a\n"))
    logs.take(line("b\n", "c2", "second/Model"))
    assert (logs.text("cell/Model"), logs.text("second/Model")) == ("a\n", "b\n")


# --- logs ----------------------------------------------------------------------------------------


def line(text: str, container: str = "c1", service: str = "cell/Model") -> LogLine:
    return LogLine(container, "Model", "stdout", text, 0.0, service)


def test_a_follower_reads_nothing_twice_and_only_of_its_container():
    logs = Logs()
    logs.take(line("a\n"))
    logs.take(line("b\n", "c2"))
    text, position = logs.since(0, "cell/Model")
    assert text == "a\nb\n"
    logs.take(line("c\n"))
    logs.take(line("d\n", "c2"))
    assert logs.since(position, "cell/Model", "c2")[0] == "d\n"
    assert logs.text("cell/Model", "c1") == "a\nc\n"
    assert logs.since(5, "Other") == ("", 0)


def test_a_follower_that_was_away_for_long_gets_what_is_kept():
    logs = Logs()
    piece = "x" * (MAX_CHARACTERS // 4)
    for n in range(8):
        logs.take(line(f"{n}{piece}"))
    text, position = logs.since(1, "cell/Model")
    assert text.startswith("5")
    assert len(text) <= MAX_CHARACTERS
    assert position == 8


# --- the feed ------------------------------------------------------------------------------------


class Told:
    """A stand-in for the widget: the sent messages, and the state of a front end that got them."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.state: dict[str, Any] = {}

    def __call__(self, changes: Mapping[str, Any]) -> None:
        changes = json.loads(json.dumps(changes))
        self.sent.append(changes)
        self.state |= changes

    def last(self) -> set[str]:
        return set(self.sent[-1])


@pytest.fixture
def session() -> Iterator[Session]:
    session = Session()
    session.sweep_again()
    yield session
    session.close("the test is over")


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def feed(session: Session, told: Told) -> Iterator[Feed]:
    feed = Feed(session, told)
    yield feed
    feed.close()


def test_the_first_look_sends_everything_and_the_next_one_nothing(feed: Feed, told: Told):
    feed.look()
    assert told.last() == {
        "session", "classes", "containers", "lives", "kept", "samples_old", "samples_new",
        "log_shown", "log_old", "log_new", "log_cut", "notices", "acks", "beat",
    }  # fmt: skip
    feed.look()
    assert len(told.sent) == 1


def test_only_what_changed_is_sent(feed: Feed, told: Told, session: Session):
    feed.look()
    session.services["cell/Model"] = Service(session, "Model", key="cell/Model")
    feed.look()
    assert told.last() == {"classes", "beat"}
    assert told.state["classes"][0]["declared"] is True


def test_a_notice_and_a_build_reach_the_panel(feed: Feed, told: Told, session: Session):
    session.services["cell/Model"] = Service(session, "Model", key="cell/Model")
    session.bus.publish(step("running"))
    session.notice("Model", "cpu=64 is more than this machine has")
    feed.look()
    assert told.state["classes"][0]["build"][0]["status"] == "running"
    assert told.state["notices"][0]["text"] == "Model: cpu=64 is more than this machine has"


def test_a_panel_that_opens_after_a_build_shows_its_steps(session: Session, told: Told):
    session.services["cell/Model"] = Service(session, "Model", key="cell/Model")
    session.bus.publish(step("running"))
    session.bus.publish(step("done", at=13.0))
    feed = Feed(session, told)
    feed.look()
    feed.close()
    (built,) = told.state["classes"][0]["build"]
    assert (built["text"], built["status"], built["seconds"]) == ("pip install six", "done", 3.0)
    assert told.state["classes"][0]["steps"] == 2


def test_a_log_is_sent_only_while_it_is_followed(feed: Feed, told: Told, session: Session):
    session.services["cell/Model"] = Service(session, "Model", key="cell/Model")
    session.bus.publish(line("before\n"))
    feed.look()
    assert told.state["log_new"] == ""
    feed.follow("cell/Model")
    session.bus.publish(line("half a pair: \ud83d\n"))
    feed.look()
    assert told.last() == {"log_shown", "log_new", "beat"}
    assert told.state["log_new"] == "before\nhalf a pair: ?\n"
    feed.follow("")
    feed.look()
    assert (told.state["log_shown"], told.state["log_new"]) == ("", "")


def test_a_container_that_went_is_read_from_the_history(feed: Feed, told: Told, session: Session):
    session.services["cell/Model"] = Service(session, "Model", key="cell/Model")
    feed.look()
    session.history.add(entry("c1", session=session.id))
    session.history.add(entry("c2", session="another"))
    session.bus.publish(Transition("c1", "Model", State.IDLE, State.FAILED, "it was killed", 2.0))
    feed.look()
    assert [one["name"] for one in told.state["containers"]] == ["c1"]
    assert told.state["lives"]["c1"][0] == "failed"


def test_a_failed_action_is_answered_and_reported(feed: Feed, told: Told):
    feed.do("id1", "warm", "cell/Nothing").join()
    feed.look()
    assert told.state["acks"] == ["id1"]
    assert told.state["notices"][0]["text"] == (
        "could not warm cell/Nothing: InvalidError: this class is no longer part of the session. "
        "Fix: run its cell again"
    )


def test_a_wish_that_is_none_does_nothing(feed: Feed, told: Told):
    feed.do("id1", "__class__", "cell/Nothing").join()
    feed.look()
    assert "__class__" in told.state["notices"][0]["text"]
    assert told.state["acks"] == ["id1"]


def test_the_feed_sends_by_itself_while_a_page_is_visible(session: Session):
    import threading

    sent = threading.Event()
    feed = Feed(session, lambda changes: sent.set())
    feed.see("page", True)
    assert sent.wait(30)
    feed.close()


def test_the_end_of_the_session_is_reported(session: Session, told: Told):
    is_open = True
    feed = Feed(session, told, lambda: is_open)
    feed.look()
    is_open = False
    feed.look()
    assert told.state["session"]["open"] is False
    feed.close()


def test_the_panel_is_public_under_its_name_though_a_package_has_it_too():
    import lifecycle_magic as lm
    from lifecycle_magic.session import session as sessions
    from lifecycle_magic.ui.panel.widget import panel

    first = lm.panel()
    assert first is panel()
    assert "no container is running" in str(first)
    sessions.close("the test is over")
    assert lm.panel() is not first
    assert first.session["open"] is False
    sessions.close("the test is over")
