"""One JupyterLab server and one Chromium for all tests of this folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from browser.lab import FLAGS, Lab, Notebook, dress, lab, opened

Open = Callable[..., Notebook]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker runs them all: a second server and a second browser would cost more than they
    bring.
    """
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.xdist_group("browser"))


# Not for the whole session: Playwright runs an event loop on this thread, in which no later test
# could run its own.
@pytest.fixture(scope="package")
def browser(need_chromium: str) -> Iterator[Browser]:
    # Without what tells the processes of a module's tests: Chromium starts some in each of them.
    env = {name: value for name, value in os.environ.items() if name != "LIFECYCLE_MAGIC_STATE"}
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=need_chromium, args=FLAGS, env=env)
        yield one
        one.close()


@pytest.fixture(scope="package")
def jupyterlab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("lab"), "process") as one:
        yield one


@pytest.fixture(scope="package")
def page(jupyterlab: Lab, browser: Browser) -> Iterator[Page]:
    """One page for all tests: loading JupyterLab takes longer than most of them."""
    with opened(jupyterlab, browser) as one:
        yield one


@pytest.fixture
def open_notebook(jupyterlab: Lab, page: Page) -> Iterator[Open]:
    """Opens a notebook of these cells; keywords are of `browser.lab.dress`."""
    books: list[Notebook] = []

    def open_(*cells: str, **how: Any) -> Notebook:
        dress(page, **how)
        books.append(Notebook(jupyterlab, page, cells))
        return books[-1]

    yield open_
    for book in books:
        book.close()
