"""The commands ``why`` and ``diff``: what the last edit of a class changed, and what it has not."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifecycle_magic.exception import InvalidError
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.host.paths import matching
from lifecycle_magic.lifecycle import running_classes
from lifecycle_magic.lifecycle.running_classes import RunningClass
from lifecycle_magic.services import class_source
from lifecycle_magic.ui.export import cells
from lifecycle_magic.ui.panel.text import plain

if TYPE_CHECKING:
    from lifecycle_magic.fingerprint.statements import Cell
    from lifecycle_magic.services.service import Service

__all__ = ["diff", "diff_of_records", "saved_notebook", "stale", "why", "why_of_records"]


def why(service: Service) -> str:
    """Return what the last deployment of a class changed and why, and what its build was for."""
    lines = []
    if service.last_edit is not None:
        lines.append(_did(service.last_edit))
    if names := service.changed_since():
        lines.append(stale(service.name, names))
    lines.append(service.build_reason())
    return "\n".join(lines)


def why_of_records(root: Path, name: str) -> str:
    """Return the same of the classes of every session, as far as it is on disk."""
    return "\n".join(_did(one) for one in _records(root, name))


def diff(service: Service, shell: Any, path: str | None) -> str:
    """Return how the running class differs from its cell, in the saved notebook if it is known.

    ``path`` is that of a notebook. Without one, and where the front end does not say which file it
    shows, the cells count that have run.
    """
    running = service.last_edit
    if running is None or not running.source:
        raise InvalidError(f"diff: {service.name} runs nowhere yet. Fix: run its cell")
    notebook = Path(path).expanduser() if path else saved_notebook(shell.user_ns)
    if notebook is not None:
        shown = _differences(running, cells.read(notebook, "diff"), str(notebook))
    else:
        shown = _differences(running, cells.of_shell(shell), "the last cell that ran")
    names = service.changed_since()
    return "\n".join([shown, stale(service.name, names)]) if names else shown


def diff_of_records(root: Path, name: str, path: str) -> str:
    """Return how the running classes of this name differ from their cells in a saved notebook."""
    found = cells.read(Path(path).expanduser(), "diff")
    return "\n".join(_differences(one, found, path) for one in _records(root, name))


def stale(cls: str, names: Sequence[str]) -> str:
    """Return the sentence about names that a class uses as they were."""
    return (
        f"{cls} still uses {', '.join(names)} as of its last run. "
        f"Fix: run the cell of {cls} again to use the new {'values' if len(names) > 1 else 'one'}"
    )


def saved_notebook(namespace: Mapping[str, object]) -> Path | None:
    """Return the file of the notebook of this kernel, as its front end has named it, or None."""
    for named in (namespace.get("__vsc_ipynb_file__"), os.environ.get("JPY_SESSION_NAME")):
        if isinstance(named, str) and named.endswith(".ipynb") and Path(named).is_file():
            return Path(named)
    return None


def _did(one: RunningClass) -> str:
    return plain(f"{one.cls}: {one.did} ({time.strftime('%H:%M:%S', time.localtime(one.at))})")


def _records(root: Path, name: str) -> list[RunningClass]:
    found = [
        one
        for path in matching(root / "run", "[!.]*/owner.json")
        if (owner := Owner.read(path)) is not None and owner.alive()
        for one in running_classes.read_all(path.parent)
    ]
    named = [one for one in found if name in (one.cls, one.service)]
    if not named:
        names = ", ".join(dict.fromkeys(one.cls for one in found)) or "none"
        raise InvalidError(
            f"no running class is named {name!r}; there are {names}. Fix: run the cell of the class"
        )
    return named


def _differences(running: RunningClass, found: Sequence[Cell], place: str) -> str:
    texts = [class_source.in_text(cell.source, running.cls) for cell in found]
    text = next((text for text in reversed(texts) if text), "")
    if not text:
        raise InvalidError(
            f"diff: no cell of {place} defines {running.cls}. "
            "Fix: save the notebook, or give the path of the notebook that has the cell"
        )
    before, after = (
        [line.rstrip() for line in one.strip().splitlines()] for one in (running.source, text)
    )
    lines = list(difflib.unified_diff(before, after, "running", place, lineterm=""))
    return "\n".join(lines) or f"{running.cls}: the class that runs is that of {place}"
