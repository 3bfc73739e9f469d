"""How containers ended, kept across sessions: one JSON line each, at most `KEPT` of them."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from lifecycle_magic.report import ExitHook, Report
from lifecycle_magic.state import State

KEPT = 500


@dataclass(frozen=True)
class Entry:
    """One container that is gone. Times are seconds since the epoch; ``service`` is the key that
    its class had in the session, ``build_hook`` what it only ran for an image.
    """

    session: str
    container: str
    cls: str
    engine: str
    state: str  # exited | failed
    why: str
    began: float
    ended: float
    hooks: tuple[ExitHook, ...] = ()
    tail: str = ""
    service: str = ""
    build_hook: str = ""

    @classmethod
    def of(
        cls,
        session: str,
        name: str,
        engine: str,
        report: Report,
        service: str = "",
        build_hook: str = "",
    ) -> Entry:
        """From the report that a supervisor left behind."""
        well = report.entered and report.in_order
        return cls(
            session=session,
            container=report.container,
            cls=name,
            engine=engine,
            state=(State.EXITED if well else State.FAILED).value,
            why=report.told(),
            began=report.began,
            ended=report.ended,
            hooks=report.hooks,
            tail=report.tail,
            service=service,
            build_hook=build_hook,
        )


class History:
    """The file, shared by all sessions below one state root."""

    def __init__(self, root: Path) -> None:
        self._path = root / "history.jsonl"

    def add(self, entry: Entry) -> None:
        """Append, and drop the oldest when there are twice too many."""
        with open(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(json.dumps(asdict(entry)).encode() + b"\n")
            file.flush()
            file.seek(0)
            lines = file.readlines()
            if len(lines) > 2 * KEPT:
                file.truncate(0)
                file.writelines(lines[-KEPT:])

    def entries(self) -> list[Entry]:
        """All of them, the oldest first. A line that makes no sense is passed over."""
        try:
            lines = self._path.read_text().splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                told = json.loads(line)
                told["hooks"] = tuple(ExitHook(**hook) for hook in told["hooks"])
                found.append(Entry(**told))
            except (ValueError, TypeError, KeyError):
                continue
        return found
