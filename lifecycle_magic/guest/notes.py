"""JSON lines over a socket or a pipe: how supervisor, worker and kernel tell each other small
things.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

MAX_LINE = 1 << 20


class Lines:
    """Bytes in, whole JSON lines out.

    A line that is too long or no JSON object is a ValueError; ``skipped`` gets it instead, where
    those that follow it are to be read all the same.
    """

    def __init__(self, skipped: Callable[[ValueError], None] | None = None) -> None:
        self._rest = b""
        self._skipped = skipped
        self._too_long = False  # what is read belongs to a line that was skipped

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        if self._too_long and whole:
            del whole[0]
            self._too_long = False
        told = []
        for one in whole:
            try:
                told.append(_object(one))
            except ValueError as error:
                self._skip(error)
        if len(self._rest) > MAX_LINE:
            self._rest = b""
            if not self._too_long:
                self._too_long = True
                self._skip(ValueError(f"a control line of more than {MAX_LINE} bytes"))
        return told

    def _skip(self, error: ValueError) -> None:
        if self._skipped is None:
            raise error
        self._skipped(error)


def _object(line: bytes) -> dict[str, Any]:
    told = json.loads(line)
    if not isinstance(told, dict):
        raise ValueError("a control line that is no JSON object")
    return told


def line(**told: Any) -> bytes:
    """What `Lines` reads."""
    return json.dumps(told).encode() + b"\n"
