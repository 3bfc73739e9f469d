"""The live panel as a Jupyter widget: traits of facts going out, wishes coming in.

Everything that is decided is decided in `lifecycle_magic.panel.feed`; what it looks like is in
``js/``, whose bundle lies in ``static/``. Messages of the front end may come on another thread than
the one that sends, while a cell runs, so both take one lock.
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

from lifecycle_magic import session as sessions
from lifecycle_magic.panel import snapshot
from lifecycle_magic.panel.feed import Feed
from lifecycle_magic.session import Session

__all__ = ["Panel", "panel"]

_STATIC = Path(__file__).with_name("static")

_VIEW = "application/vnd.jupyter.widget-view+json"

# The front end sent it, so no other front end has to hear of it.
_INPUT = {"sync": True, "echo_update": False}


class Panel(anywidget.AnyWidget):
    """The live panel of one session. `panel` returns the current one; show it as a cell's result.

    In a terminal it is a table.
    """

    _esm = _STATIC / "panel.js"
    _css = _STATIC / "panel.css"

    session = traitlets.Dict().tag(sync=True)
    classes: traitlets.List[Any] = traitlets.List().tag(sync=True)
    containers: traitlets.List[Any] = traitlets.List().tag(sync=True)
    lives = traitlets.Dict().tag(sync=True)
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
        self._feed = Feed(session, self._told, lambda: sessions.opened() is session)
        super().__init__(session=self._feed.about())
        _answer_while_cells_run(self.comm)
        self.on_msg(self._asked)
        self._follow_cells()

    # --- out ---------------------------------------------------------------------------------

    def _told(self, changes: Mapping[str, Any]) -> None:
        with self._lock, self.hold_sync():
            for name, value in changes.items():
                setattr(self, name, value)

    def send_state(self, key: Any = None) -> None:
        """As ipywidgets does; not in the middle of a message that comes in."""
        with self._lock:
            super().send_state(key)

    # --- in ----------------------------------------------------------------------------------

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """As ipywidgets does; not in the middle of an update that goes out."""
        with self._lock:
            super().set_state(sync_data)

    @traitlets.observe("look")
    def _looked(self, change: Any) -> None:
        told = change["new"]
        if isinstance(told.get("client"), str):
            self._feed.see(told["client"], bool(told.get("visible")))

    @traitlets.observe("follow")
    def _followed(self, change: Any) -> None:
        self._feed.follow(change["new"])

    def _asked(self, _: Any, content: Any, buffers: Any) -> None:
        if isinstance(content, dict) and {"id", "do", "target"} <= content.keys():
            self._feed.do(str(content["id"]), str(content["do"]), str(content["target"]))

    def _follow_cells(self) -> None:
        """Without subshells the front end can't be heard while a cell runs: look on meanwhile."""
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
        if shell is not None:
            self._feed.hold(bool(getattr(shell, "kernel", None)))  # a cell is making this panel
            shell.events.register("pre_run_cell", self._cell_begins)
            shell.events.register("post_run_cell", self._cell_ended)

    def _cell_begins(self, _: Any = None) -> None:
        self._feed.hold(True)

    def _cell_ended(self, _: Any = None) -> None:
        self._feed.hold(False)

    def stop(self) -> None:
        """Tell once more how it is, and follow the session no more."""
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
        if shell is not None:
            shell.events.unregister("pre_run_cell", self._cell_begins)
            shell.events.unregister("post_run_cell", self._cell_ended)
        self._feed.close()
        self._feed.look()

    # --- shown -------------------------------------------------------------------------------

    def __str__(self) -> str:
        return snapshot.table(snapshot.of_session(self._of), snapshot.NOTHING).text()

    def _ipython_display_(self, **_: Any) -> None:
        """The live view; where there is no kernel behind it any more, what it was."""
        from IPython.core.getipython import get_ipython
        from IPython.display import display

        shell = get_ipython()
        if not hasattr(shell, "kernel"):
            print(self)
            return
        self._feed.see("", True)  # until the front end can say so itself
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        display({_VIEW: view, "text/plain": str(self)}, raw=True)  # type: ignore[no-untyped-call]
        display(self._left_behind(), raw=True)  # type: ignore[no-untyped-call]

    def _left_behind(self) -> dict[str, str]:
        """What stands in the saved notebook; a live view hides it, by the session's id.

        JupyterLab shows no other form of a widget whose kernel is gone.
        """
        at = time.strftime("%Y-%m-%d %H:%M", time.localtime())
        text = (
            f"This was the live panel of a session of {at}. It is live no more: that kernel ended "
            "or was restarted. Run %lifecycle to open the panel of the session of now."
        )
        mark = f"lcm-panel-left lcm-panel-left-{self._of.id}"
        return {"text/html": f"<div class='{mark}'>{html.escape(text)}</div>", "text/plain": ""}


def _answer_while_cells_run(comm: Any) -> None:
    """Have a button's message handled on the subshell that it was sent to, not after the cell.

    ipykernel 7.4 hands a comm's messages to the shell that last sent on it, which for a widget
    made in a cell is the main one, busy until the cell ends. Its public way is to send in the
    context of a message that came on a subshell; but the first such message waits for the cells
    that are queued, and after a reload of the page that subshell is gone and every message to it
    is dropped. So the one method that decides is passed over: the sender's choice holds.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda data, default: default


_panel: Panel | None = None
_panel_lock = threading.Lock()


def panel() -> Panel:
    """The live panel of this session, one and the same each time; a cell that ends with it shows
    it.

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
