"""``--json``: what a command lists, for programs that read it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["print_json"]


def print_json(rows: Iterable[Any]) -> None:
    """Print records or dataclasses as one JSON list. Times are seconds, sizes bytes."""
    print(json.dumps([_plain(one) for one in rows], indent=2, default=_other))


def _plain(row: Any) -> Any:
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        return dataclasses.asdict(row)
    return row


def _other(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else repr(value)
