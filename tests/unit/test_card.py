"""The card of a cell as text, as HTML and in a terminal, and when it is drawn again."""

from __future__ import annotations

import dataclasses
import io
import re
import threading
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from lifecycle_magic.decorators import hooks
from lifecycle_magic.lifecycle.states import BuildStep, Notice
from lifecycle_magic.services.service import Change, Service
from lifecycle_magic.session.session import Session
from lifecycle_magic.spec.reading import read_class
from lifecycle_magic.ui.deployment import Address, DeploymentProgress, DeploymentView, StepRow
from lifecycle_magic.ui.notebook.card import Card, TerminalOutput, as_html, as_text
from lifecycle_magic.ui.notebook.options_line import parse

RUNNING = DeploymentView(
    name="Model",
    engine="",
    status="running",
    headline="building its image",
    rows=(StepRow("pip install six", "done", 1.5), StepRow("train()", "running", None, "epoch 3")),
    notices=(),
    tail=(),
    seconds=None,
)
DONE = dataclasses.replace(
    RUNNING,
    engine="docker",
    status="done",
    headline="ready",
    rows=(StepRow("pip install six", "cached", 0.0), StepRow("container", "done", 0.25)),
    notices=("cpu=64 is more than this machine has",),
    seconds=75.0,
)
FAILED = dataclasses.replace(
    RUNNING,
    status="failed",
    headline="BuildError: no",
    rows=(StepRow("pip install nope", "failed", 0.004),),
    tail=("Collecting nope", "ERROR: no match"),
    seconds=1.0,
)


def test_the_text_of_a_card():
    assert as_text(RUNNING) == (
        "… Model: building its image\n  ✓ pip install six  1.5 s\n  … train()  epoch 3"
    )
    assert as_text(DONE) == (
        "✓ Model: ready (docker, 1 min 15 s)\n"
        "  = pip install six  cached\n"
        "  ✓ container  250 ms\n"
        "  cpu=64 is more than this machine has"
    )
    assert as_text(FAILED) == (
        "✗ Model: BuildError: no (1.0 s)\n"
        "  ✗ pip install nope  4.0 ms\n"
        "    Collecting nope\n"
        "    ERROR: no match"
    )


class Words(HTMLParser):
    """The words of a page as seen without its style, and its tags, each closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: set[str] = set()
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1] != "style":
            self.words += data.split()


@pytest.mark.parametrize("view", [RUNNING, DONE, FAILED], ids=lambda view: view.status)
def test_the_html_has_the_words_of_the_text(view: DeploymentView):
    assert Words(as_html(view)).words == as_text(view).split()


def test_no_text_becomes_markup():
    evil = "<img src=x onerror=alert(1)>"
    view = dataclasses.replace(
        FAILED,
        name=evil,
        engine=evil,
        headline=evil,
        rows=(StepRow(evil, "failed", 1.0, evil),),
        notices=(evil,),
        tail=(evil,),
    )
    page = Words(as_html(view))
    assert page.tags <= {"div", "style", "b", "table", "tr", "td", "pre"}
    assert " ".join(page.words).count(evil) == 7


def test_terminal_escapes_are_taken_out():
    view = dataclasses.replace(
        FAILED,
        rows=(StepRow("\x1b[31mred\x1b[0m", "failed", 1.0),),
        tail=("\x1b]0;title\x07plain\x08\x9b2J",),
        notices=("\x1b]8;;http://x\x1b\\link",),
    )
    for shown in (as_text(view), as_html(view)):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
        assert "red" in shown
        assert "plain" in shown


def test_every_colour_has_a_value_without_jupyterlab_or_vscode():
    style = as_html(DONE)
    for use in re.findall(r"var\(--(?:jp|vscode)-[\w-]+(.)", style):
        assert use == ","


# --- a terminal ----------------------------------------------------------------------------------


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_file_gets_each_step_once_and_no_control_characters():
    stream = io.StringIO()
    terminal = TerminalOutput(stream)
    terminal.show(RUNNING)
    terminal.show(RUNNING)
    done = dataclasses.replace(RUNNING, status="done", headline="ready", seconds=2.0)
    rows = (RUNNING.rows[0], StepRow("train()", "done", 3.0))
    terminal.show(
        dataclasses.replace(done, rows=rows, notices=("a note", "Model: another")), final=True
    )
    assert stream.getvalue().splitlines() == [
        "Model: ✓ pip install six  1.5 s",
        "Model: ✓ train()  3.0 s",
        "Model: a note",
        "Model: another",
        "✓ Model: ready (2.0 s)",
    ]


def test_a_terminal_has_one_live_line_that_is_wiped():
    stream = Tty()
    terminal = TerminalOutput(stream)
    terminal.show(RUNNING)
    assert stream.getvalue().endswith("Model: … train()  epoch 3")
    terminal.show(FAILED, final=True)
    assert "\r\x1b[K" in stream.getvalue()
    assert stream.getvalue().endswith("    ERROR: no match\n✗ Model: BuildError: no (1.0 s)\n")


def test_a_closed_stream_is_no_error():
    stream = io.StringIO()
    terminal = TerminalOutput(stream)
    stream.close()
    terminal.show(DONE, final=True)
    assert stream.closed


# --- the card itself -----------------------------------------------------------------------------


class Recorder:
    """A display that keeps what a card shows; the final view sets `ended`."""

    def __init__(self) -> None:
        self.views: list[DeploymentView] = []
        self.finals = 0
        self.shown = threading.Condition()

    def show(self, view: DeploymentView, *, final: bool = False) -> None:
        with self.shown:
            self.views.append(view)
            self.finals += final
            self.shown.notify_all()


class Model:
    @hooks.enter()
    def load(self): ...

    @hooks.method()
    def predict(self, x): ...


SPEC = read_class(Model)


@pytest.fixture
def session() -> Iterator[Session]:
    one = Session()
    yield one
    one.close("the test is over")


def output(text: str) -> BuildStep:
    return BuildStep("Model", 1, 1, "output", text, 2.0)


def test_a_card_shows_the_first_view_each_step_and_the_end(session: Session):
    sink = Recorder()
    with Card(SPEC, Service(session, "Model"), sink) as card:
        session.bus.publish(BuildStep("Model", 1, 1, "running", "one", 1.0))
        session.bus.publish(BuildStep("Model", 1, 1, "done", "one", 2.0))
        session.bus.publish(BuildStep("Other", 1, 1, "running", "two", 2.0))
        card.report_deployed(Change.NEW, None, parse(""))
    assert [[row.status for row in view.rows] for view in sink.views] == [
        [],
        ["running"],
        ["done"],
        ["done"],
    ]
    assert sink.views[-1].headline == "ready"
    assert sink.finals == 1


def test_a_burst_of_output_is_thinned_and_its_last_line_is_shown(session: Session):
    sink = Recorder()
    with Card(SPEC, Service(session, "Model"), sink):
        session.bus.publish(BuildStep("Model", 1, 1, "running", "one", 1.0))
        for number in range(2000):
            session.bus.publish(output(f"line {number}\n"))
        with sink.shown:
            came = sink.shown.wait_for(lambda: sink.views[-1].rows[0].detail == "line 1999", 30)
    assert came
    assert len(sink.views) < 200


def test_events_after_the_end_are_not_shown(session: Session):
    sink = Recorder()
    with Card(SPEC, Service(session, "Model"), sink):
        pass
    count = len(sink.views)
    session.bus.publish(Notice(None, "late", 1.0))
    assert len(sink.views) == count


def test_an_error_is_shown_and_raised(session: Session):
    sink = Recorder()
    card = Card(SPEC, Service(session, "Model"), sink)
    with pytest.raises(ValueError, match="no such"), card:
        raise ValueError("no such\nthing")
    assert sink.views[-1].status == "failed"
    assert sink.views[-1].headline == "ValueError: no such"


def test_lazy_and_arguments_are_reported(session: Session):
    sink = Recorder()
    with Card(SPEC, Service(session, "Model"), sink) as card:
        card.report_lazy()
        card.report_arguments_needed()
    assert "first call" in sink.views[-1].headline
    assert "takes arguments" in sink.views[-1].notices[-1]


def test_a_card_outside_of_ipython_breaks_nothing(session: Session, capsys):
    with Card(SPEC, Service(session, "Model"), TerminalOutput()) as card:
        card.report_deployed(Change.NEW, None, parse(""))
    assert "Model: ready" in capsys.readouterr().out


def test_addresses_are_shown_as_text_and_as_links():
    progress = DeploymentProgress("Model", 0.0)
    here, there = "http://127.0.0.1:28948/", "https://hub.example.org/user/me/proxy/28949/"
    progress.set_addresses((Address("predict", here, here), Address("rank", here, there)))
    progress.end(1.0)
    view = progress.view()
    text, page = as_text(view), as_html(view)
    assert f"predict answers at {here}\n" in text
    assert f"rank answers at {here}, from your browser at {there}" in text
    assert f"<a href='{here}' target='_blank' rel='noopener'>{here}</a>" in page
    assert f"<a href='{there}' target='_blank' rel='noopener'>{there}</a>" in page


def test_an_address_that_is_made_of_markup_stays_text():
    progress = DeploymentProgress("Model", 0.0)
    progress.set_addresses((Address("predict", "http://x/", "http://x/'><b>"),))
    assert "<b>" not in as_html(progress.view()).partition("lm-web")[2]
