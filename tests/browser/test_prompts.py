"""Prompts of methods in JupyterLab: the input below the cell, and the debugger."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from browser.lab import Notebook

Open = Callable[..., Notebook]

LOAD = """
%load_ext lifecycle_magic
"""

MODEL = """
%%lifecycle_cls
import lifecycle_magic as lm, getpass

class Model:
    @lm.method()
    def ask(self):
        print("before", flush=True)
        return input("who? "), getpass.getpass("password: ")

    @lm.method()
    def fail(self, x):
        y = x + 1
        return y / 0
"""


@pytest.mark.process
def test_a_method_asks_below_its_cell_and_debug_opens_its_frames(open_notebook: Open) -> None:
    notebook = open_notebook(
        LOAD, MODEL, "print(Model().ask.remote())", "Model().fail.remote(1)", "%debug"
    )
    notebook.run(0)
    notebook.run(1)
    asked = notebook.root.locator(".jp-Stdin-input").last
    label = notebook.root.locator(".jp-Stdin-prompt").last

    def answer(prompt: str, text: str) -> None:
        expect(label).to_have_text(prompt)
        asked.fill(text)
        asked.press("Enter")

    notebook.begin(2)
    expect(label).to_have_text("who? ")
    expect(notebook.root.locator(".jp-OutputArea", has_text="before").last).to_be_visible()
    answer("who? ", "Ann")
    expect(label).to_have_text("password: ")
    expect(asked).to_have_attribute("type", "password")
    answer("password: ", "hidden")
    text = notebook.wait(2)
    assert "('Ann', 'hidden')" in text
    assert text.count("hidden") == 1  # it is not echoed
    notebook.begin(3)
    notebook.failure(3)
    notebook.begin(4)
    answer("(Pdb) ", "p x, y")
    expect(notebook.root.get_by_text("(1, 2)")).to_be_visible()
    answer("(Pdb) ", "q")
    assert "(1, 2)" in notebook.wait(4)
