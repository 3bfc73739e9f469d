"""Displays of a method, shown by this process's IPython."""

from __future__ import annotations

import json
import sys
from typing import Any

__all__ = ["show"]


def show(text: str) -> None:
    """Show a message of the stream `lifecycle_magic.wire.output_streams.DISPLAY`.

    Raises `ValueError` for anything else: the user's code may have written it.
    """
    try:
        message = _object(json.loads(text))
    except RecursionError:
        raise ValueError("what a method displays is nested too deep") from None
    if message.get("do") == "clear":
        _clear(wait=message.get("wait") is True)
        return
    data, metadata = _object(message.get("data")), _object(message.get("metadata"))
    id = message.get("id")
    transient = {"display_id": id} if isinstance(id, str) else {}
    if not _has_shell():
        if "text/plain" in data:
            print(data["text/plain"])
        return
    from IPython.display import publish_display_data

    is_update = message.get("do") == "update" and bool(transient)
    publish_display_data(  # type: ignore[no-untyped-call]
        data, metadata, transient=transient, update=is_update
    )


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a displayed object is no JSON object")
    return value


def _clear(*, wait: bool) -> None:
    if _has_shell():
        from IPython.display import clear_output

        clear_output(wait)  # type: ignore[no-untyped-call]


def _has_shell() -> bool:
    """Return whether this process is an IPython, in a notebook or a terminal."""
    shell = sys.modules.get("IPython.core.interactiveshell")
    return shell is not None and shell.InteractiveShell.initialized()
