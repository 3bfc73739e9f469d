"""The live panel as a Jupyter widget: it sends facts as traits and receives requests.

`lifecycle_magic.ui.panel.feed` makes all decisions; ``js/`` has the front end, whose bundle is in
``static/``. While a cell runs, messages of the front end may arrive on another thread than the one
that sends, so both use one lock.
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from lifecycle_magic.session import session as sessions
from lifecycle_magic.session.session import Session
from lifecycle_magic.ui.panel import snapshot
from lifecycle_magic.ui.panel.feed import Feed

__all__ = ["Panel", "panel"]

_STATIC = Path(__file__).with_name("static")

_VIEW = "application/vnd.jupyter.widget-view+json"

# Values set by one front end are not echoed to the others.
_INPUT = {"sync": True, "echo_update": False}


class Panel(anywidget.AnyWidget):
    """The live panel of one session; in a terminal, a table. `panel` returns the current one."""

    _esm = _STATIC / "panel.js"
    _css = _STATIC / "panel.css"

    session = traitlets.Dict().tag(sync=True)
    classes: traitlets.List[Any] = traitlets.List().tag(sync=True)
    containers: traitlets.List[Any] = traitlets.List().tag(sync=True)
    lives = traitlets.Dict().tag(sync=True)
    kept: traitlets.List[Any] = traitlets.List().tag(sync=True)
    samples_old = traitlets.Dict().tag(sync=True)
    samples_new = traitlets.Dict().tag(sync=True)
    log_shown = traitlets.Unicode().tag(sync=True)
    log_old = traitlets.Unicode().tag(sync=True)
    log_new = traitlets.Unicode().tag(sync=True)
    log_cut = traitlets.Int().tag(sync=True)
    notices: traitlets.List[Any] = traitlets.List().tag(sync=True)
    acks: traitlets.List[Any] = traitlets.List().tag(sync=True)
    beat = traitlets.Float().tag(sync=True)

    look = traitlets.Dict().tag(**_INPUT)  # {"client": str, "visible": bool, "count": int}
    follow = traitlets.Unicode().tag(**_INPUT)

    def __init__(self, session: Session) -> None:
        self._lock = threading.RLock()
        self._of = session
        self._feed = Feed(session, self._show, lambda: sessions.opened() is session)
        super().__init__(session=self._feed.about())
        _answer_while_cells_run(self.comm)
        self.on_msg(self._on_request)
        self._follow_cells()

    # --- sending ---------------------------------------------------------------------------------

    def _show(self, changes: Mapping[str, Any]) -> None:
        with self._lock, self.hold_sync():
            for name, value in changes.items():
                setattr(self, name, value)

    def send_state(self, key: Any = None) -> None:
        """Send the state as ipywidgets does, but not while a message is being received."""
        with self._lock:
            super().send_state(key)

    # --- receiving ---------------------------------------------------------------------------

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Set the state as ipywidgets does, but not while an update is being sent."""
        with self._lock:
            super().set_state(sync_data)

    @traitlets.observe("look")
    def _on_look(self, change: Any) -> None:
        look = change["new"]
        if isinstance(look.get("client"), str):
            self._feed.see(look["client"], bool(look.get("visible")))

    @traitlets.observe("follow")
    def _on_follow(self, change: Any) -> None:
        self._feed.follow(change["new"])

    def _on_request(self, _: Any, content: Any, buffers: Any) -> None:
        if isinstance(content, dict) and {"id", "do", "target"} <= content.keys():
            self._feed.do(str(content["id"]), str(content["do"]), str(content["target"]))

    def _follow_cells(self) -> None:
        """Keep sending while a cell runs: without subshells the front end can't renew its lease."""
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
        if shell is not None:
            self._feed.hold(bool(getattr(shell, "kernel", None)))  # a cell is creating this panel
            shell.events.register("pre_run_cell", self._on_cell_begin)
            shell.events.register("post_run_cell", self._on_cell_end)

    def _on_cell_begin(self, _: Any = None) -> None:
        self._feed.hold(True)

    def _on_cell_end(self, _: Any = None) -> None:
        self._feed.hold(False)

    def stop(self) -> None:
        """Send a last update and stop following the session."""
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
        if shell is not None:
            shell.events.unregister("pre_run_cell", self._on_cell_begin)
            shell.events.unregister("post_run_cell", self._on_cell_end)
        self._feed.close()
        self._feed.look()

    # --- display -------------------------------------------------------------------------------

    def __str__(self) -> str:
        rows = snapshot.of_session(self._of)
        return snapshot.table(rows, snapshot.NOTHING, snapshot.failures(rows)).text()

    def _ipython_display_(self, **_: Any) -> None:
        """Display the live view and, for a notebook opened without its kernel, a note."""
        from IPython.core.getipython import get_ipython
        from IPython.display import display

        shell = get_ipython()
        if not hasattr(shell, "kernel"):
            print(self)
            return
        self._feed.see("", True)  # until the front end renews it
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        display({_VIEW: view, "text/plain": str(self)}, raw=True)  # type: ignore[no-untyped-call]
        display(self._left_behind(), raw=True)  # type: ignore[no-untyped-call]

    def _left_behind(self) -> dict[str, str]:
        """Return the note for the saved notebook; a live view hides it, by the session's id.

        JupyterLab shows nothing else of a widget whose kernel has exited.
        """
        at = time.strftime("%Y-%m-%d %H:%M", time.localtime())
        text = (
            f"This was the live panel of a session of {at}. It is no longer live: the kernel "
            "exited or was restarted. Run %lifecycle to open the panel of the current session."
        )
        mark = f"lcm-panel-left lcm-panel-left-{self._of.id}"
        return {"text/html": f"<div class='{mark}'>{html.escape(text)}</div>", "text/plain": ""}


def _answer_while_cells_run(comm: Any) -> None:
    """Handle a button's message on the subshell that it was sent to, not after the running cell.

    ipykernel 7.4 hands a comm's messages to the shell that last sent on the comm. For a widget
    created in a cell, that is the main shell, which is busy until the cell ends. The public way
    around it is to send in the context of a message that came on a subshell. But the first such
    message waits for the queued cells, and after a reload of the page that subshell no longer
    exists, so every message to it is dropped. Therefore the one method that chooses the shell is
    replaced, and the sender's choice is kept.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda data, default: default


_panel: Panel | None = None
_panel_lock = threading.Lock()


def panel() -> Panel:
    """Return the live panel of this session, always the same object.

    A cell that ends with this call displays the panel. In a terminal it prints a table.

    >>> lm.panel()  # doctest: +SKIP
    """
    global _panel
    session = sessions.current()
    with _panel_lock:
        if _panel is None or _panel._of is not session:
            if _panel is not None:
                _panel.stop()
            _panel = Panel(session)
        return _panel
