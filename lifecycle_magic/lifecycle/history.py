"""The ends of containers, kept across sessions: one JSON line each, at most `MAX_ENTRIES`."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lifecycle_magic.host import checked_json
from lifecycle_magic.lifecycle.report import ExitHook, Report
from lifecycle_magic.lifecycle.states import State

MAX_ENTRIES = 500


@dataclass(frozen=True)
class HistoryEntry:
    """One container that has exited. Times are seconds since the epoch.

    ``service`` is the key of its class in the session. ``build_hook`` is the hook that the
    container ran for an image build, otherwise "".
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
    def from_report(
        cls,
        session: str,
        name: str,
        engine: str,
        report: Report,
        service: str = "",
        build_hook: str = "",
        memory: int | None = None,
    ) -> HistoryEntry:
        """Return the entry for a supervisor's report. ``memory`` is the class's limit, in MiB."""
        well = report.entered and report.in_order
        return cls(
            session=session,
            container=report.container,
            cls=name,
            engine=engine,
            state=(State.EXITED if well else State.FAILED).value,
            why=report.summary(memory),
            began=report.began,
            ended=report.ended,
            hooks=report.hooks,
            tail=report.tail,
            service=service,
            build_hook=build_hook,
        )

    @classmethod
    def read(cls, content: Any) -> HistoryEntry:
        """Return the entry in decoded JSON. Raises `ValueError` if it is invalid."""
        if not isinstance(content, dict) or not isinstance(content.get("hooks"), (list, tuple)):
            raise ValueError("a line that is no history entry")
        texts = {name: checked_json.string(name, content.get(name, "")) for name in _STRINGS}
        return cls(
            **texts,
            began=checked_json.number("began", content.get("began")),
            ended=checked_json.number("ended", content.get("ended")),
            hooks=tuple(map(ExitHook.read, content["hooks"])),
        )


_STRINGS = (
    *("session", "container", "cls", "engine", "state", "why"),
    *("tail", "service", "build_hook"),
)


class History:
    """The history file, shared by all sessions below one state root."""

    def __init__(self, root: Path) -> None:
        self._path = root / "history.jsonl"

    def add(self, entry: HistoryEntry) -> None:
        """Append an entry; drop the oldest when the file holds twice `MAX_ENTRIES`."""
        with self._locked() as file:
            file.write(json.dumps(asdict(entry)).encode() + b"\n")
            file.flush()
            file.seek(0)
            lines = file.readlines()
            if len(lines) > 2 * MAX_ENTRIES:
                # Not in place: a crash in the middle would lose all of them.
                part = self._path.with_suffix(".part")  # of the one that has the lock
                with open(part, "wb", opener=_private) as shorter:
                    shorter.writelines(lines[-MAX_ENTRIES:])
                os.replace(part, self._path)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        """Open the file for appending, which no other process has open meanwhile."""
        while True:
            with open(self._path, "a+b", opener=_private) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(file.fileno()), os.stat(self._path)):
                        yield file
                        return
            # Another process replaced the file while this one waited for the lock.

    def entries(self) -> list[HistoryEntry]:
        """Return all entries, the oldest first. Invalid lines are skipped.

        A report that arrived late stands for the entry that was written without it.
        """
        try:
            lines = self._path.read_text(errors="replace").split("\n")
        except FileNotFoundError:
            return []
        found: dict[tuple[str, str], HistoryEntry] = {}
        for line in lines:
            try:
                entry = HistoryEntry.read(json.loads(line))
            except (ValueError, RecursionError):
                continue
            key = entry.session, entry.container
            found.pop(key, None)
            found[key] = entry
        return list(found.values())


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
