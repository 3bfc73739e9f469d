"""Classes reachable by name on this machine: ``%lifecycle apps`` and ``lifecycle-magic apps``."""

from __future__ import annotations

import os
import time
from pathlib import Path

from lifecycle_magic.host.served_names import Served, living, newest
from lifecycle_magic.ui.panel.text import Table, age
from lifecycle_magic.wire.frame_header import PROTOCOL
from lifecycle_magic.wire.python_versions import python_minor

__all__ = ["deployments", "listing", "records"]

_COLUMNS = ("app", "name", "kind", "served by", "pid", "since", "note")


def listing(root: Path) -> Table:
    """Return a table of the classes and functions that the living sessions below ``root`` serve."""
    sessions = list(living(root))
    now = time.time()
    rows = [
        (app, name, kind, _by(one), str(one.owner.pid), age(now - one.began), _note(one, sessions))
        for one in sessions
        for app, names in one.names.items()
        for name, kind in names.items()
    ]
    empty = 'no app is served by name: declare classes with app = lm.App("name")'
    notes = any(row[-1] for row in rows)
    shown = tuple(sorted(row if notes else row[:-1] for row in rows))
    columns = _COLUMNS if notes else _COLUMNS[:-1]
    return Table(columns, shown, frozenset({"pid", "since"}), empty, ())


def records(root: Path) -> list[dict[str, object]]:
    """Return what `listing` shows as records, for JSON; ``began`` is seconds since the epoch."""
    return [
        {
            "app": app,
            "name": name,
            "kind": kind,
            "deployment": one.deployment or None,
            "session": one.session,
            "served_by": one.label,
            "pid": one.owner.pid,
            "began": one.began,
            "python": one.python,
        }
        for one in living(root)
        for app, names in one.names.items()
        for name, kind in names.items()
    ]


def deployments(root: Path) -> tuple[str, ...]:
    """Return a line for each deployment, for ``ps``."""
    return tuple(
        f"deployment {one.deployment} serves {_names(one)} ({one.label}, process {one.owner.pid})"
        for one in living(root)
        if one.deployment
    )


def _names(one: Served) -> str:
    return ", ".join(f"{app}/{name}" for app, names in one.names.items() for name in names)


def _by(one: Served) -> str:
    return f"deployment {one.deployment}" if one.deployment else one.label


def _note(one: Served, sessions: list[Served]) -> str:
    if one.owner.pid == os.getpid():
        return "this process"
    if (one.protocol, one.python) != (PROTOCOL, python_minor()):
        return f"Python {one.python}, protocol {one.protocol}: not callable from here"
    if one not in newest(sessions):
        return "being replaced"
    return ""
