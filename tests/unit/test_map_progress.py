"""What a notebook shows of a map's progress."""

from __future__ import annotations

import html.parser
from dataclasses import replace

import pytest

from lifecycle_magic.calls.map.progress_output import ProgressView, as_html, as_text

VIEW = ProgressView("Model.go", 2000, 500, 0, 60.0, 50.0, running=2)

SHOWN = {
    "0 of 2,000, 1 starting": replace(VIEW, done=0, working=0.0, running=0, starting=1),
    "500 of 2,000, 10/s, 2 min 30 s left, 2 containers": VIEW,
    "500 of 2,000, 3 failed, 10/s, 2 min 30 s left, 1 container, 3 starting": replace(
        VIEW, failed=3, running=1, starting=3
    ),
    "500, 10/s, 2 containers": replace(VIEW, total=None),
    "500 of 500, 250/s, in 2.5 s": replace(
        VIEW, total=500, working=2.0, elapsed=2.5, ending="done"
    ),
    "500 of 2,000, 10/s, after 1 min 0 s, the loop was left": replace(VIEW, ending="left"),
    "500 of 500, 10/s, in 1 min 0 s": replace(VIEW, total=500, ending="left"),  # by zip()
    "500 of 2,000, 10/s, after 1 min 0 s, interrupted": replace(VIEW, ending="interrupted"),
    "500 of 2,000, 10/s, after 1 min 0 s, ended by ValueError": replace(VIEW, ending="ValueError"),
    "500 of 360,000, 0.01/s, 9986 h 6 min left, 2 containers": replace(
        VIEW, total=360_000, working=50_000.0
    ),
}


@pytest.mark.parametrize("told", SHOWN)
def test_a_line_has_what_is_known(told: str) -> None:
    assert as_text(SHOWN[told]) == f"Model.go: {told}"


@pytest.mark.parametrize("told", SHOWN)
def test_the_page_has_the_same_facts_and_a_bar_while_it_runs(told: str) -> None:
    page = as_html(replace(SHOWN[told], where="<b>&go"))
    assert "<b>&lt;b&gt;&amp;go</b>" in page
    texts: list[str] = []
    parser = html.parser.HTMLParser()
    parser.handle_data = texts.append  # type: ignore[method-assign]
    parser.feed(page)
    assert ", ".join(texts[-len(told.split(", ")) :]) == told
    assert ("<progress" in page) == (not SHOWN[told].ending)
