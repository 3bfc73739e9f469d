"""The output of methods, written where the calling cell or terminal prints."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from lifecycle_magic.wire.output_streams import DISPLAY

__all__ = ["flush", "show", "viewer"]

_log = logging.getLogger(__name__)

viewer: ContextVar[Callable[[str, str], None] | None] = ContextVar("viewer", default=None)
"""What gets the output of a call of another process instead of this one's cell or terminal."""

FLUSH_INTERVAL_SECONDS = 0.05
"""Seconds between two flushes of a notebook's stream. Each flush waits for ipykernel's own thread,
about 0.2 ms; what is not flushed is sent by that thread 0.2 s later, as in a plain cell.
"""

_flushed_at = 0.0
_unflushed: Any = None
"""The notebook's stream with unflushed output."""


def flush() -> None:
    """Show what was printed so far, before a prompt."""
    global _unflushed
    target, _unflushed = _unflushed, None
    for stream in (target, sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            pass  # as in `show`


def show(stream: str, text: str) -> None:
    """Print a method's output in the cell or terminal of the current context."""
    global _flushed_at, _unflushed
    elsewhere = viewer.get()
    if elsewhere is not None:
        elsewhere(stream, text)
        return
    if stream == DISPLAY:
        _show_rich(text)
        return
    target = sys.stderr if stream == "stderr" else sys.stdout
    try:
        if _unflushed is not None and _unflushed is not target:
            before, _unflushed = _unflushed, None
            before.flush()  # to keep the order of the output
        target.write(text)
        if type(target).__module__ == "ipykernel.iostream":
            now = time.monotonic()
            if now - _flushed_at < FLUSH_INTERVAL_SECONDS:
                _unflushed = target
                return
            _flushed_at, _unflushed = now, None
        target.flush()
    except (OSError, ValueError):
        pass  # a terminal or pipe that is closed; the log has the text


def _show_rich(text: str) -> None:
    """Show what the method has displayed, after what it has printed before."""
    global _unflushed
    from lifecycle_magic.pool import rich_output

    before, _unflushed = _unflushed, None
    try:
        if before is not None:
            before.flush()
        rich_output.show(text)
    except Exception:  # code in the container, or a front end's hooks, may break it
        _log.debug("a displayed object is lost", exc_info=True)
