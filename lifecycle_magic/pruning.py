"""``prune``: what may go, asked for once, and removed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from lifecycle_magic.exception import EngineError
from lifecycle_magic.owner import Owner
from lifecycle_magic.panel.text import Table
from lifecycle_magic.service import IMAGES

if TYPE_CHECKING:
    from lifecycle_magic.engines.base import Engine, Kept
    from lifecycle_magic.session import Session

__all__ = ["listing", "prune"]


def prune(
    session: Session,
    *,
    everything: bool = False,
    volumes: bool = False,
    ask: Callable[[str], str] | None = None,
) -> str:
    """Remove images and ended containers of ours that nothing runs on; says what was removed.

    The images of every living session's classes are kept; of this session's not, with
    ``everything``. ``volumes`` removes named volumes too, with what is in them, but for those that
    a container has. ``ask`` is `input`, or None to go ahead.
    """
    engines = _answering(session)
    if not engines:
        return "no engine answers, so there is nothing to prune"
    keep = _images(session, everything)
    if ask is not None:
        kept = "" if everything else ", but for those of this session's classes"
        question = (
            f"Remove all images of lifecycle_magic that nothing runs on{kept} "
            f"({', '.join(engine.name for engine in engines)})? "
            "They are built again when they are needed. "
        )
        if volumes:
            names = [one.name for one in kept_by(engines) if one.kind == "volume" and not one.used]
            question += f"And these volumes, for good: {', '.join(names) or 'none'}? "
        question += "[y/N] "
        if ask(question).strip().lower() not in ("y", "yes"):
            return "nothing was removed"
    lines: list[str] = []
    for engine in engines:
        try:
            lines += [f"{engine.name}: removed {what}" for what in engine.prune(keep=keep)]
            for one in engine.kept() if volumes else ():
                if one.kind == "volume" and not one.used and engine.remove_volume(one.name):
                    lines.append(f"{engine.name}: removed volume {one.name}")
        except EngineError as error:
            lines.append(f"{engine.name}: {error}")
    return "\n".join(lines) or "nothing was left to remove"


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


def _images(session: Session, but_own: bool) -> frozenset[str]:
    """The images that classes of living sessions run on, or will at their next call."""
    found: set[str] = set()
    for path in (session.root / "run").glob(f"*/{IMAGES}"):
        owner = Owner.read(path.parent / "owner.json")
        own = path.parent == session.folder
        if owner is not None and owner.alive() and not (own and but_own):
            with contextlib.suppress(OSError):  # that session ends right now
                found.update(path.read_text().split())
    return frozenset(found)
