"""What methods display, as JupyterLab shows it below the calling cell."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from browser.lab import Notebook

pytestmark = [pytest.mark.process, pytest.mark.slow]

Open = Callable[..., Notebook]

CLASSES = """
%load_ext lifecycle_magic
import os, sys
os.environ["LIFECYCLE_MAGIC_ENGINE"] = "process"
import lifecycle_magic as lm
from IPython.display import clear_output
app = lm.App("shop")

class Page:
    def __init__(self, text):
        self.text = text
    def _repr_html_(self):
        return f"<b class='page'>{self.text}</b>"

@app.cls()
class Model:
    @lm.method()
    def shows(self):
        print("\\x1b[31mred\\x1b[0m and 50 %\\r\\x1b[31mred\\x1b[0m and 99 %")
        display(Page("one"))
        handle = display("start", display_id=True)
        display({"text/markdown": "**strong**"}, {"image/png": PICTURE}, raw=True)
        handle.update(Page("two"))
        print("no end", end="")

    @lm.method()
    def clears(self):
        print("cleared")
        clear_output(wait=True)
        display(Page("kept"))

PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""


def test_it_is_shown_below_the_calling_cell(open_notebook: Open) -> None:
    notebook = open_notebook(CLASSES, "Model().shows.remote()", "Model().clears.remote()")
    notebook.run(0)
    notebook.run(1)
    shown = notebook.page.locator(".jp-OutputArea-output")
    expect(notebook.page.locator("b.page")).to_have_text(["one", "two"])
    expect(shown.filter(has_text="and 99 %").locator(".ansi-red-fg")).to_have_text("red")
    expect(shown.filter(has_text="50 %")).to_have_count(0)
    expect(shown.locator("strong")).to_have_text("strong")
    expect(shown.locator("img")).to_have_count(1)
    expect(shown.filter(has_text="no end")).to_be_visible()
    notebook.run(2)
    expect(notebook.page.locator("b.page")).to_have_text(["one", "two", "kept"])
    expect(shown.filter(has_text="cleared")).to_have_count(0)
