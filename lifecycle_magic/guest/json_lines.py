"""JSON lines over a socket or a pipe: the small messages of supervisor, worker and kernel."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

MAX_LINE_BYTES = 1 << 20


class JsonLineReader:
    """Splits bytes into JSON lines.

    A line that is too long or is no JSON object raises ValueError. If ``skipped`` is given, it gets
    the error instead, and the lines that follow are still read.
    """

    def __init__(self, skipped: Callable[[ValueError], None] | None = None) -> None:
        self._rest = b""
        self._skipped = skipped
        self._too_long = False  # the data that is read belongs to a line that was skipped

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Return the messages of the lines that ``data`` completes."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        if self._too_long and whole:
            del whole[0]
            self._too_long = False
        messages = []
        for one in whole:
            try:
                messages.append(_object(one))
            except ValueError as error:
                self._skip(error)
            except RecursionError:
                self._skip(ValueError("a control line is nested too deep"))
        if len(self._rest) > MAX_LINE_BYTES:
            self._rest = b""
            if not self._too_long:
                self._too_long = True
                self._skip(ValueError(f"a control line has more than {MAX_LINE_BYTES} bytes"))
        return messages

    def _skip(self, error: ValueError) -> None:
        if self._skipped is None:
            raise error
        self._skipped(error)


def _object(line: bytes) -> dict[str, Any]:
    messages = json.loads(line)
    if not isinstance(messages, dict):
        raise ValueError("a control line is no JSON object")
    return messages


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``, although a pipe may take it in pieces."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def encode_line(**messages: Any) -> bytes:
    """Return a message as a line for `JsonLineReader`."""
    return json.dumps(messages).encode() + b"\n"


def join_prints(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the notes, with consecutive prints to the same stream joined."""
    found: list[dict[str, Any]] = []
    for one in messages:
        last = found[-1] if found else {}
        if (
            one.get("note") == last.get("note") == "print"
            and one.get("stream") == last.get("stream")
            and one.get("shown") == last.get("shown")
            and isinstance(text := one.get("text"), str)
            and isinstance(before := last.get("text"), str)
        ):
            found[-1] = {**last, **one, "text": before + text}
        else:
            found.append(one)
    return found
