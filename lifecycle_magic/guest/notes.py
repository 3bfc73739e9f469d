"""JSON lines over a socket or a pipe: how supervisor, worker and kernel tell each other small
things.
"""

from __future__ import annotations

import json
from typing import Any

MAX_LINE = 1 << 20


class Lines:
    """Bytes in, whole JSON lines out. A line that is too long or no JSON object is a ValueError."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            raise ValueError(f"a control line of more than {MAX_LINE} bytes")
        told = [json.loads(line) for line in whole]
        if not all(isinstance(one, dict) for one in told):
            raise ValueError("a control line that is no JSON object")
        return told


def line(**told: Any) -> bytes:
    """What `Lines` reads."""
    return json.dumps(told).encode() + b"\n"
