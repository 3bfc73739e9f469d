"""Take the screenshots for docs/: the quickstart, the first cells and the panel in JupyterLab.

    .venv/bin/python scripts/screenshots.py [FOLDER] [quickstart|first|panel ...]

Needs a Docker engine with the base image, and Chromium. Look at the pictures before you keep them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from browser.lab import FLAGS, Lab, Notebook, dress, lab, opened  # noqa: E402
from engine.pages import blocks  # noqa: E402
from playwright.sync_api import Page, expect, sync_playwright  # noqa: E402

SCALE = 1.5

POINTS = re.compile(r"^M(.*L){5}")
"""A line of a few samples, so that there is something to see."""

PANEL = """
%load_ext lifecycle_magic
%lifecycle
"""

# Four warm containers that are kept at work, of which one will be on its way out.
EMBEDDER = """
%%lifecycle_cls --cpu 2 --memory 512 --max-containers 4
import lifecycle_magic as lm, time

class Embedder:
    @lm.enter()
    def load(self):
        self.weights = bytearray(150 << 20)

    @lm.method()
    def embed(self, texts):
        began = time.monotonic()
        while time.monotonic() < began + 0.1:
            sum(range(10_000))
        time.sleep(0.3)
        print(f"embedded {len(texts)} texts", flush=True)

    @lm.exit()
    def save(self):
        time.sleep(25)
"""

# One that died, one that lives, and an address.
RANKER = """
%%lifecycle_cls --memory 256
import os

class Ranker:
    @lm.method()
    def rank(self, number):
        return number

    @lm.method()
    def train(self):
        for step in range(38, 43):
            print(f"step {step}: loss {8.0 / step:.4f}", flush=True)
        os.kill(os.getpid(), 9)

    @lm.wsgi_app()
    def site(self):
        def answer(environ, start):
            start("200 OK", [])
            return [b"ranked"]
        return answer
"""

DIES = """
try:
    Ranker().train.remote()
except lm.exception.ContainerDied:
    pass
for number in range(320):
    Ranker().rank.remote(number)
"""

WORK = """
_calls = [Embedder().embed.spawn(["a"] * (4 + n % 3)) for n in range(600)]
"""

# A build that goes on for as long as the pictures are taken.
INDEXER = """
%%lifecycle_cls
import time

class Indexer:
    @lm.build()
    def fetch(self):
        for part in range(1000):
            time.sleep(1)

    @lm.method()
    def find(self, text): ...
"""


def main() -> None:
    """Start what the pictures show, and take them."""
    takes = {"quickstart": take_quickstart, "first": take_first_cells, "panel": take_panel}
    words = sys.argv[1:]
    chosen = [takes[word] for word in words if word in takes] or list(takes.values())
    out = next((Path(word) for word in words if word not in takes), ROOT / "docs")
    out.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for take in chosen:
            folder = Path(tempfile.mkdtemp(prefix="lm-shots-"))
            # A state of its own, so that the quickstart's card shows every step of the build.
            os.environ["LIFECYCLE_MAGIC_STATE"] = str(folder / "state")
            engine = "process" if take is take_quickstart else "docker"
            with lab(folder, engine) as server, opened(server, browser, SCALE) as page:
                take(server, page, out)
        browser.close()


def take_quickstart(server: Lab, page: Page, out: Path) -> None:
    """Run the code cells of the quickstart up to the time of a call, and take them."""
    book = json.loads((ROOT / "notebooks" / "quickstart.ipynb").read_text())
    cells = ["".join(one["source"]) for one in book["cells"] if one["cell_type"] == "code"]
    first = next(n for n, cell in enumerate(cells) if cell.startswith("%%lifecycle_cls"))
    last = next(n for n, cell in enumerate(cells) if cell.startswith("%timeit"))
    dress(page, width=900)
    notebook = Notebook(server, page, cells[: last + 1])
    for number in range(last + 1):
        notebook.run(number)
    _take_cells(page, notebook, out / "quickstart.png", first)
    notebook.close()


def _take_cells(page: Page, book: Notebook, path: Path, first: int = 0) -> None:
    """Take the cells from ``first`` to the last one, none of them selected."""
    page.add_style_tag(
        content=".jp-cell-toolbar { display: none !important; }"
        ".jp-Cell .jp-Collapser { visibility: hidden; }"
        ".jp-Cell .jp-InputArea-editor { border-color: var(--jp-cell-editor-border-color); }"
    )
    page.evaluate("() => document.activeElement.blur()")
    page.set_viewport_size({"width": 900, "height": 2000})
    page.mouse.move(0, 0)
    page.evaluate(
        "for (const one of document.querySelectorAll('.jp-WindowedPanel-outer')) one.scrollTop = 0;"
    )
    cells = book.root.locator(".jp-CodeCell")
    top, end = cells.nth(first).bounding_box(), cells.last.bounding_box()
    assert top is not None
    assert end is not None
    page.screenshot(path=path, clip={**top, "height": end["y"] + end["height"] - top["y"]})


def take_first_cells(server: Lab, page: Page, out: Path) -> None:
    """Run the cells of docs/guides/first.md up to the edited one, and take them."""
    cells = [block.code for block in blocks(ROOT / "docs" / "guides" / "first.md")]
    cells = [cell for cell in cells if not cell.startswith(("pip ", "%lifecycle "))]
    dress(page, width=900)
    book = Notebook(server, page, cells)
    for number, cell in enumerate(cells):
        book.begin(number)
        is_error = cell.strip() in ('Words().count("to be")', "Words().count.remote(42)")
        if is_error and "sorted" not in "".join(cells[:number]):
            book.failure(number)
        else:
            book.wait(number)
    for theme in ("light", "dark"):
        dress(page, width=900, theme=f"JupyterLab {theme.title()}")
        _take_cells(page, book, out / f"first-{theme}.png")
    book.close()


def take_panel(server: Lab, page: Page, out: Path) -> None:
    """Run everything that the pictures show, and take them."""
    dress(page, width=1100)
    book = Notebook(server, page, [PANEL, EMBEDDER, RANKER, DIES, WORK, INDEXER])
    panel = book.panel
    for cell in range(5):
        book.run(cell)
    busy = panel.locator(".lcm-container[data-state=busy]")
    expect(busy).to_have_count(4)
    book.begin(5)
    expect(panel.locator(".lcm-hook:visible")).to_have_text("fetch()")
    expect(busy.first.locator(".lcm-line").first).to_have_attribute("d", POINTS)
    busy.nth(1).get_by_role("button", name="Stop").click()
    panel.get_by_role("alertdialog").get_by_role("button").first.click()
    panel.get_by_role("button", name="Logs of Embedder", exact=True).click()
    exiting = panel.locator(".lcm-container[data-state=exiting]")
    expect(exiting).to_contain_text("exit 5 s of 30 s")
    # As its corner lets a user do; and nothing has the focus.
    panel.locator(".lcm-log").evaluate("log => { log.style.blockSize = '11em'; }")
    page.evaluate("() => document.activeElement.blur()")
    for theme in ("light", "dark"):
        dress(page, width=1100, theme=f"JupyterLab {theme.title()}")
        page.set_viewport_size({"width": 1100, "height": 1400})
        page.mouse.move(0, 0)
        panel.scroll_into_view_if_needed()
        panel.screenshot(path=out / f"panel-{theme}.png")
    panel.get_by_role("button", name="Stop Indexer", exact=True).click()
    panel.get_by_role("alertdialog").get_by_role("button").first.click()
    book.close()


if __name__ == "__main__":
    main()
