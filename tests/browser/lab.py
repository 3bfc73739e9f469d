"""A real JupyterLab in a real Chromium, driven as a user would: cells run, buttons are pressed.

Waiting is always for something that is seen or that the kernel tells, never for time to pass.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
from kernel.harness import wait_for
from playwright.sync_api import Browser, Locator, Page, expect
from playwright.sync_api import TimeoutError as PageTimeout

PATIENCE = 90_000  # milliseconds; only a bug takes that long

# Chromium as root in a machine that reaches no network.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

expect.set_options(timeout=PATIENCE)

# A quiet page: no news, no questions, no completer in the way.
_SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"autoStartDefaultKernel": True, "windowingMode": "none"},
    "docmanager-extension/plugin": {"autosave": False},
}


class Lab:
    """One JupyterLab server on a free port of the loopback; its kernels run on ``engine``."""

    def __init__(self, folder: Path, engine: str) -> None:
        self.folder = folder
        self.root = folder / "notebooks"
        self.root.mkdir(parents=True)
        self.token = os.urandom(16).hex()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        settings = folder / "settings"
        for name, content in _SETTINGS.items():
            path = settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
        with open(folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "jupyterlab", "--allow-root", "--no-browser"),
                    *("--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"),
                    *(f"--ServerApp.root_dir={self.root}", "--expose-app-in-browser"),
                    *("--LabApp.extension_manager=readonly", "--ServerApp.terminals_enabled=False"),
                ],
                env={
                    **os.environ,
                    "LIFECYCLE_MAGIC_ENGINE": engine,
                    "JUPYTER_TOKEN": self.token,
                    "JUPYTER_CONFIG_DIR": str(folder / "config"),
                    "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
                    "JUPYTERLAB_SETTINGS_DIR": str(settings),
                    "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
                    "IPYTHONDIR": str(folder / "ipython"),
                    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
                },
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        wait_for(self._answers, f"an answer of JupyterLab; its log is {folder / 'log'}")

    def _answers(self) -> bool:
        try:
            self.ask("/api/status")
        except OSError:
            assert self.process.poll() is None, "JupyterLab ended"
            return False
        return True

    def ask(self, path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(
            self.url + path, method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def end(self) -> None:
        """Shut every kernel down as the server's menu does, then the server."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


class Notebook:
    """A notebook open in the page, with a kernel of its own."""

    def __init__(self, lab: Lab, page: Page, cells: Sequence[str]) -> None:
        self.lab = lab
        self.page = page
        self.name = f"n{time.monotonic_ns():x}.ipynb"
        sources = [textwrap.dedent(cell).strip("\n") for cell in cells]
        import nbformat  # takes a second, which no test that is only collected should cost

        book = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in sources],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbformat.write(book, lab.root / self.name)
        execute(page, "docmanager:open", path=self.name)
        try:
            self._wait_open(PATIENCE // 2)
        except PageTimeout:  # on a busy machine JupyterLab may miss that the kernel is ready
            self.reload()

    def reload(self) -> None:
        """Load the whole page again, with this notebook."""
        self.page.goto(f"{self.lab.url}/lab/tree/{self.name}?token={self.lab.token}&reset")
        self._wait_open()

    def _wait_open(self, milliseconds: int = PATIENCE) -> None:
        self.page.wait_for_function(
            """name => {
                const panel = window.jupyterapp?.shell.currentWidget;
                const kernel = panel?.sessionContext?.session?.kernel;
                return panel?.context?.path === name && kernel?.status === "idle"
                    && kernel?.connectionStatus === "connected";
            }""",
            arg=self.name,
            timeout=milliseconds,
        )

    @property
    def root(self) -> Locator:
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    @property
    def panel(self) -> Locator:
        return self.root.locator(".lcm-panel").first

    def begin(self, cell: int) -> None:
        """Run a cell (0 is the first) and do not wait for it."""
        self.page.evaluate(
            """index => {
                const notebook = window.jupyterapp.shell.currentWidget.content;
                notebook.activeCellIndex = index;
                notebook.deselectAll();
                void window.jupyterapp.commands.execute("notebook:run-cell");
            }""",
            cell,
        )

    def wait(self, cell: int) -> str:
        """Wait until a cell has ended; its output as text. Fails if it raised."""
        text = self._ended(cell)
        assert "Traceback" not in text, text
        return text

    def failure(self, cell: int) -> str:
        """Wait until a cell has raised; return its output as text."""
        text = self._ended(cell)
        assert "Traceback" in text, text
        return text

    def _ended(self, cell: int) -> str:
        number = self.root.locator(".jp-CodeCell").nth(cell).locator(".jp-InputArea-prompt")
        expect(number).to_have_text(re.compile(r"^\[\d+\]:$"))
        output = self.root.locator(".jp-CodeCell").nth(cell).locator(".jp-OutputArea").first
        return output.inner_text()

    def run(self, cell: int) -> str:
        self.begin(cell)
        return self.wait(cell)

    def is_running(self, cell: int) -> bool:
        number = self.root.locator(".jp-CodeCell").nth(cell).locator(".jp-InputArea-prompt")
        return number.inner_text() == "[*]:"

    def kernel(self) -> str:
        """The kernel's id."""
        [one] = [s for s in self.lab.ask("/api/sessions") if s["path"].endswith(self.name)]
        return str(one["kernel"]["id"])

    def kernel_process(self) -> psutil.Process:
        id_ = self.kernel()
        for one in psutil.Process(self.lab.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if any(id_ in word for word in one.cmdline()):
                    return one
        raise AssertionError(f"no process of kernel {id_}")

    def save(self) -> None:
        execute(self.page, "docmanager:save")
        wait_for(lambda: 'execution_count": 1' in self._text(), "the saved notebook")

    def _text(self) -> str:
        return (self.lab.root / self.name).read_text()

    def saved(self) -> Any:
        """The notebook as it lies on the disk."""
        return json.loads(self._text())

    def shut_down(self) -> None:
        """End the kernel for good, as the list of running kernels does."""
        [one] = [s for s in self.lab.ask("/api/sessions") if s["path"].endswith(self.name)]
        self.lab.ask(f"/api/sessions/{one['id']}", "DELETE")

    def dismiss_dialog(self) -> None:
        """JupyterLab says in a dialog that a kernel died."""
        self.page.locator(".jp-Dialog .jp-mod-accept").click()

    def close(self) -> None:
        """Shut the kernel down, which ends its containers, and close the notebook unsaved."""
        with contextlib.suppress(ValueError):  # the kernel is gone
            self.shut_down()
        self.page.evaluate("() => { window.jupyterapp.shell.currentWidget?.dispose(); }")
        for button in self.page.locator(".jp-Dialog .jp-mod-accept").all():
            button.click()


@contextlib.contextmanager
def lab(folder: Path, engine: str) -> Iterator[Lab]:
    """A JupyterLab server for as long as the ``with`` runs."""
    one = Lab(folder, engine)
    try:
        yield one
    finally:
        one.end()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def opened(lab: Lab, browser: Browser, scale: float = 1.0) -> Iterator[Page]:
    """JupyterLab in a page of the browser, with ``scale`` pixels of a picture for each of its
    own.
    """
    window = browser.new_context(device_scale_factor=scale)
    window.set_default_timeout(PATIENCE)
    page = window.new_page()
    page.goto(f"{lab.url}/lab?token={lab.token}&reset")
    page.wait_for_function("() => Boolean(window.jupyterapp)")
    page.evaluate("async () => { await window.jupyterapp.restored; }")
    yield page
    window.close()


def execute(page: Page, command: str, **arguments: Any) -> None:
    """One of JupyterLab's commands, to its end."""
    page.evaluate(
        "async ([command, given]) => { await window.jupyterapp.commands.execute(command, given); }",
        [command, arguments],
    )


def dress(page: Page, *, width: int = 1280, theme: str = "JupyterLab Light", **media: Any) -> None:
    """Give the page a width, a theme of JupyterLab's, and what the user's system asks for."""
    page.set_viewport_size({"width": width, "height": 900})
    none = {"color_scheme": "no-override", "contrast": "no-override", "forced_colors": "none"}
    page.emulate_media(**none | media)
    page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    execute(page, "apputils:change-theme", theme=theme)
    page.wait_for_function(
        """light => document.body.dataset.jpThemeLight === light""",
        arg="false" if "Dark" in theme else "true",
    )
