"""``prune``: what may go, asked for once, and removed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from lifecycle_magic import keeping
from lifecycle_magic.exception import EngineError
from lifecycle_magic.panel.text import Table

if TYPE_CHECKING:
    from lifecycle_magic.engines.base import Engine, Kept
    from lifecycle_magic.session import Session

__all__ = ["listing", "prune"]

_YOUNG = (
    " (Docker's images are left alone for their first ten minutes: somebody may be about to use "
    "them)"
)


def prune(
    session: Session,
    *,
    everything: bool = False,
    volumes: bool = False,
    ask: Callable[[str], str] | None = None,
) -> str:
    """Remove images and ended containers of ours that nothing runs on; says what was removed.

    What the classes of every living session of this state root run on, or will, is kept; of this
    session's not, with ``everything``. ``volumes`` removes named volumes too, with what is in them,
    but for those that a container has or a class of such a session was declared with. ``ask`` is
    `input`, or None to go ahead.
    """
    engines = _answering(session)
    if not engines:
        return "no engine answers, so there is nothing to prune"
    but = session.folder if everything else None
    if ask is not None:
        kept = "" if everything else ", but for those of this session's classes"
        question = (
            f"Remove all images of lifecycle_magic that nothing runs on{kept} "
            f"({', '.join(engine.name for engine in engines)})? "
            "They are built again when they are needed. "
        )
        if volumes:
            names = _volumes(engines, keeping.needed(session.root, but=but))
            question += f"And these volumes, for good: {', '.join(names) or 'none'}? "
        question += "[y/N] "
        if ask(question).strip().lower() not in ("y", "yes"):
            return "nothing was removed"
    lines: list[str] = []
    with keeping.pruning(session.root, but=but) as needed:
        for engine in engines:
            try:
                lines += [f"{engine.name}: removed {w}" for w in engine.prune(keep=needed.images)]
                for name in _volumes([engine], needed) if volumes else ():
                    if engine.remove_volume(name):
                        lines.append(f"{engine.name}: removed volume {name}")
            except EngineError as error:
                lines.append(f"{engine.name}: {error}")
    young = _YOUNG if any(engine.name == "docker" for engine in engines) else ""
    return "\n".join(lines) or f"nothing was left to remove{young}"


def _volumes(engines: Iterable[Engine], needed: keeping.Needed) -> list[str]:
    """The names of the volumes that nobody has and nobody is to have."""
    return [
        one.name
        for one in kept_by(engines)
        if one.kind == "volume" and not one.used and one.name not in needed.volumes
    ]


def kept_by(engines: Iterable[Engine]) -> list[Kept]:
    """What these engines keep; one that fails keeps nothing that could be told."""
    found: list[Kept] = []
    for engine in engines:
        with contextlib.suppress(EngineError):
            found += engine.kept()
    return found


def listing(session: Session) -> Table:
    """Every image and volume that the tool keeps, with its size, largest first."""
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
    """The engine that ``LIFECYCLE_MAGIC_ENGINE`` names, else every one that answers."""
    wanted = os.environ.get("LIFECYCLE_MAGIC_ENGINE") or "auto"
    found: list[Engine] = []
    for name in ("docker", "process"):
        if wanted not in ("auto", name):
            continue
        try:
            found.append(session.engine(name))
        except EngineError:
            continue
    return found
