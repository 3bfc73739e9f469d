"""What a method displays, in a real kernel: its cell has it as if the code ran there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kernel.notebook import ENGINES, Notebook, open_notebook

CELL = """
%%lifecycle_cls
from IPython.display import clear_output, update_display
from IPython.display import display as show

class Page:
    def __init__(self, text):
        self.text = text
    def _repr_html_(self):
        return f"<b>{self.text}</b>"
    def __repr__(self):
        return f"Page({self.text!r})"

class Model:
    @lm.enter()
    def load(self):
        display(Page("enter"))

    @lm.method()
    def pages(self):
        print("before")
        display(Page("one"))
        handle = show("start", display_id=True)
        handle.update(Page("two"))
        update_display(Page("three"), display_id=handle.display_id)
        print("after")

    @lm.method()
    def clears(self):
        print("gone")
        clear_output(wait=True)
        print("stays")

    @lm.method()
    def lines(self, count):
        for number in range(count):
            print(f"line {number}")
"""


@pytest.fixture(scope="module", params=ENGINES)
def notebook(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Notebook]:
    with open_notebook(request, tmp_path_factory) as one:
        yield one


def test_a_method_displays_in_the_cell_that_calls_it(notebook: Notebook) -> None:
    """The image has no IPython."""
    notebook.ok(CELL)
    shown = notebook.ok("Model().pages.remote()")
    assert shown.displays[-2:] == [
        {"text/html": "<b>one</b>", "text/plain": "Page('one')"},
        {"text/html": "<b>three</b>", "text/plain": "Page('three')"},
    ]
    assert shown.text == "before\nafter\n"
    assert notebook.ok("Model().clears.remote()").text == "gone\nstays\n"


def test_lines_of_a_burst_are_in_their_own_cell(notebook: Notebook) -> None:
    notebook.ok(CELL)
    lines = "".join(f"line {number}\n" for number in range(500))
    assert notebook.ok("Model().lines.remote(500)").text == lines
    assert notebook.ok("Model().lines.spawn(500).get()").text == lines
    shown = notebook.ok("list(Model().lines.map([100, 100]))")
    assert shown.text.count("line 99") == 2
