"""A notebook in a real kernel: cells that run, and their outputs as the saved file has them."""

from __future__ import annotations

import contextlib
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from kernel.harness import PATIENCE, OwnKernel, own_kernel

ENGINES = [
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("process", marks=pytest.mark.process),
]
"""The parameters of a fixture that is made on each engine."""


@dataclass
class Shown:
    """What one cell sent: its outputs as the notebook would keep them, and its error."""

    text: str = ""
    displays: list[dict[str, Any]] = field(default_factory=list)  # as last updated
    updates: int = 0
    result: str | None = None
    error: str | None = None
    traceback: str = ""

    @property
    def card(self) -> str:
        """The text of the only display."""
        (bundle,) = self.displays
        return str(bundle["text/plain"])

    @property
    def page(self) -> str:
        """The HTML of the only display."""
        (bundle,) = self.displays
        return str(bundle["text/html"])


class Notebook:
    """Runs cells and keeps their outputs; an output of no cell of ours fails the test."""

    def __init__(self, kernel: OwnKernel) -> None:
        self.kernel = kernel
        self._cells: dict[str, Shown] = {}
        self._displays: dict[str, dict[str, Any]] = {}

    def run(self, code: str, *, interrupt_at: str | None = None) -> Shown:
        client = self.kernel.client
        cell = client.execute(textwrap.dedent(code), allow_stdin=False)
        shown = self._cells[cell] = Shown()
        while True:
            message = client.get_iopub_msg(timeout=PATIENCE)
            parent = message["parent_header"].get("msg_id")
            kind, content = message["msg_type"], message["content"]
            if kind == "status":
                if parent == cell and content["execution_state"] == "idle":
                    return shown
            elif kind != "execute_input" and parent in self._cells:  # not: a completion's
                self._take(self._cells[parent], kind, content)
            if interrupt_at is not None and interrupt_at in shown.text:
                interrupt_at = None
                self.kernel.manager.interrupt_kernel()

    def _take(self, shown: Shown, kind: str, content: dict[str, Any]) -> None:
        if kind == "stream":
            shown.text += content["text"]
        elif kind == "display_data":
            shown.displays.append(dict(content["data"]))
            name = content.get("transient", {}).get("display_id")
            if name is not None:
                self._displays[name] = shown.displays[-1]
        elif kind == "update_display_data":
            shown.updates += 1
            bundle = self._displays[content["transient"]["display_id"]]
            assert any(bundle is display for display in shown.displays), "updated by another cell"
            bundle.update(content["data"])
        elif kind == "execute_result":
            shown.result = content["data"]["text/plain"]
        elif kind == "error":
            assert shown.error is None, "one error is shown once"
            shown.error = f"{content['ename']}: {content['evalue']}"
            shown.traceback = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(content["traceback"]))

    def ok(self, code: str) -> Shown:
        shown = self.run(code)
        assert shown.error is None, shown.traceback
        return shown

    def container(self, name: str = "Model") -> str:
        """The name of the one container of a class."""
        return self.ok(
            f"""
            from lifecycle_magic.session import session as _session
            (_c,) = [c.name for c in _session.current().containers()
                     if c.plan.cls == {name!r} and c.state.value == "idle"]
            print(_c, end="")
            """
        ).text


@contextlib.contextmanager
def open_notebook(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Notebook]:
    """Start a kernel with the extension loaded, on the engine that is the request's parameter."""
    if request.param == "docker":
        request.getfixturevalue("need_docker")
    folder = tmp_path_factory.mktemp(request.param)
    with own_kernel(folder / "tmp", {"LIFECYCLE_MAGIC_ENGINE": request.param}) as kernel:
        notebook = Notebook(kernel)
        notebook.ok("%load_ext lifecycle_magic\nimport lifecycle_magic as lm")
        yield notebook
        kernel.run("%unload_ext lifecycle_magic")
