"""Take the screenshots for docs/: the first cells and the panel in JupyterLab, in light and dark.

    .venv/bin/python scripts/screenshots.py [FOLDER]

Needs a Docker engine with the base image, and Chromium. Look at the pictures before you keep them.
"""

from __future__ import annotations

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
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs"
    out.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    folder = Path(tempfile.mkdtemp(prefix="lm-shots-"))
    with lab(folder, "docker") as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for take in (take_first_cells, take_panel):
            with opened(server, browser, SCALE) as page:
                take(server, page, out)
        browser.close()


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
    page.evaluate("() => document.activeElement.blur()")
    for theme in ("light", "dark"):
        dress(page, width=900, theme=f"JupyterLab {theme.title()}")
        page.set_viewport_size({"width": 900, "height": 1800})
        page.mouse.move(0, 0)
        page.evaluate(
            "for (const one of document.querySelectorAll('.jp-WindowedPanel-outer'))"
            " one.scrollTop = 0;"
        )
        cells_shown = book.root.locator(".jp-CodeCell")
        top, end = cells_shown.first.bounding_box(), cells_shown.last.bounding_box()
        assert top is not None
        assert end is not None
        height = end["y"] + end["height"] - top["y"]
        page.screenshot(path=out / f"first-{theme}.png", clip={**top, "height": height})
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
