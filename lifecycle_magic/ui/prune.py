"""``prune``: remove unused images, containers and volumes after one confirmation."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from lifecycle_magic.exception import EngineError
from lifecycle_magic.host import ledger
from lifecycle_magic.ui.panel.text import Table

if TYPE_CHECKING:
    from lifecycle_magic.engines.base import Engine, Kept
    from lifecycle_magic.session.session import Session

__all__ = ["kept", "listing", "prune"]

_YOUNG = (
    " (Docker images younger than ten minutes are kept: another session may be about to use them)"
)


def prune(
    session: Session,
    *,
    everything: bool = False,
    volumes: bool = False,
    ask: Callable[[str], str] | None = None,
) -> str:
    """Remove unused images and exited containers of lifecycle_magic; return what was removed.

    Images that the classes of a living session use, or will use, are kept; ``everything`` removes
    those of this session. ``volumes`` also removes named volumes and their content, unless a
    container or a class of a living session uses them. ``ask`` is called with the question and
    returns the answer; None removes without asking.
    """
    engines = _answering(session)
    if not engines:
        return "no engine is available, so nothing was removed"
    but = session.folder if everything else None
    if ask is not None:
        kept = "" if everything else ", except those of this session's classes"
        question = (
            f"Remove all unused images of lifecycle_magic{kept} "
            f"({', '.join(engine.name for engine in engines)})? "
            "They are built again when needed. "
        )
        if volumes:
            names = _volumes(engines, ledger.needed(session.root, excluded=but))
            question += (
                f"Also remove these volumes and their content: {', '.join(names) or 'none'}? "
            )
        question += "[y/N] "
        if ask(question).strip().lower() not in ("y", "yes"):
            return "nothing was removed"
    lines: list[str] = []
    with ledger.pruning(session.root, excluded=but) as needed:
        for engine in engines:
            try:
                lines += [f"{engine.name}: removed {w}" for w in engine.prune(keep=needed.images)]
                for name in _volumes([engine], needed) if volumes else ():
                    if engine.remove_volume(name):
                        lines.append(f"{engine.name}: removed volume {name}")
            except EngineError as error:
                lines.append(f"{engine.name}: {error}")
    young = _YOUNG if any(engine.kind == "docker" for engine in engines) else ""
    return "\n".join(lines) or f"nothing to remove{young}"


def _volumes(engines: Iterable[Engine], needed: ledger.Needed) -> list[str]:
    """Return the names of the volumes that no container and no declared class uses."""
    return [
        one.name
        for one in kept_by(engines)
        if one.kind == "volume" and not one.used and one.name not in needed.volumes
    ]


def kept_by(engines: Iterable[Engine]) -> list[Kept]:
    """Return what these engines keep; an engine that fails is left out."""
    found: list[Kept] = []
    for engine in engines:
        with contextlib.suppress(EngineError):
            found += engine.kept()
    return found


def kept(session: Session) -> list[dict[str, object]]:
    """Return every kept image and volume as a record, for JSON."""
    return [
        {"engine": engine.name, **dataclasses.asdict(one)}
        for engine in _answering(session)
        for one in kept_by([engine])
    ]


def listing(session: Session) -> Table:
    """Return a table of every kept image and volume with its size, largest first."""
    rows = []
    for engine in _answering(session):
        for one in sorted(kept_by([engine]), key=lambda one: -(one.size or 0)):
            made = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.made)) if one.made else ""
            size = "" if one.size is None else f"{one.size / 1e6:.1f} MB"
            used = "in use" if one.used else ""
            rows.append((engine.name, one.kind, one.name, size, made, used))
    headers = ("engine", "kind", "name", "size", "made", "")
    return Table(headers, tuple(rows), frozenset({"size"}), "nothing is kept")


def _answering(session: Session) -> list[Engine]:
    """Return the engine named by ``LIFECYCLE_MAGIC_ENGINE``, otherwise every available engine of
    this machine; and the others that classes of this session have used.
    """
    wanted = os.environ.get("LIFECYCLE_MAGIC_ENGINE") or "auto"
    found: list[Engine] = []
    for name in ("docker", "process") if wanted == "auto" else (wanted,):
        try:
            found.append(session.engine(name))
        except EngineError:
            continue
    names = {engine.name for engine in found}
    return [*found, *(one for one in session.used_engines() if one.name not in names)]
