"""The sweep after dead sessions: their reports go into the history, and their folders are
removed.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lifecycle_magic.container.record import ContainerRecord, discard
from lifecycle_magic.engines.process.keeper import remove_tree
from lifecycle_magic.exception import EngineError
from lifecycle_magic.host import keep_record, relay_lock, run_files, temporary_names
from lifecycle_magic.host.keep_record import KeepRecord
from lifecycle_magic.host.owner import Owner
from lifecycle_magic.lifecycle.history import History, HistoryEntry
from lifecycle_magic.lifecycle.report import Report

if TYPE_CHECKING:
    from lifecycle_magic.engines.base import Engine, FoundContainer

__all__ = ["discard_left", "folders", "sweep"]


class Engines(Protocol):
    """The part of a session that gives access to the engines."""

    def engine(self, wanted: str | None = None, *, announce: bool = True) -> Engine:
        """Return the engine called ``wanted``. Raises `EngineError` if it does not answer."""

    def uses_engine(self, name: str) -> bool:
        """Return whether the engine called ``name`` was used."""


def sweep(root: Path, session: Engines) -> dict[Path, Exception]:
    """Add the reports of sessions whose owner is dead to the history, and remove their folders.

    A container that still runs its ``exit`` is left alone: a later sweep finds its report. A
    container without a report is recorded too: the engine or the machine stopped under it. The rest
    of such containers in the engine is removed, and so are files that killed processes left
    incomplete. Return the folders that could not be cleaned up, each with its error.
    """
    failed: dict[Path, Exception] = {}
    ended: set[str] = set()  # containers of Docker engines
    for folder in folders(root / "run"):
        try:
            _sweep_session(folder, session, History(root), ended, failed)
        except Exception as error:  # one folder must not prevent the cleaning of the others
            failed[folder] = error
    for kind in ("run", "guest", "instances", "images", "builds", "gpus", "secrets"):
        for path in temporary_names.abandoned(root / kind):
            remove_tree(str(path))
    if ended or session.uses_engine("docker"):
        with contextlib.suppress(EngineError):  # if the engine is down, a later sweep does it
            _discard_ended(session.engine("docker", announce=False), ended, History(root))
    return failed


def _sweep_session(
    folder: Path,
    session: Engines,
    history: History,
    ended: set[str],
    failed: dict[Path, Exception],
) -> None:
    """Clean up one session's folder, if its owner is dead."""
    owner = Owner.read(folder / "owner.json")
    if owner is None:
        if not (folder / "owner.json").exists() and not folders(folder):
            remove_tree(str(folder))  # its removal was interrupted
        return
    if owner.alive():
        return
    for run_dir in folders(folder):
        kept = KeepRecord.read(run_dir)
        if kept is not None and kept.owner.alive():
            continue  # another kernel has adopted it
        try:
            name = _sweep_container(owner, run_dir, session, history)
        except FileNotFoundError:
            continue  # another sweep was faster
        except Exception as error:
            failed[run_dir] = error
        else:
            ended.update([name] if name else [])
    if not folders(folder):
        remove_tree(str(folder))


def _discard_ended(engine: Engine, names: set[str], history: History) -> None:
    """Remove the containers called ``names``, and exited ones whose kernel died before it could.

    One that ran a step of an image is removed even if it runs: what it makes, nobody gets.
    """
    for one in engine.containers():
        owner = _owner(one)
        orphan = (one.ended or one.builds) and owner is not None and not owner.alive()
        if orphan and not one.builds and (entry := _late_entry(engine, one)) is not None:
            history.add(entry)
        if orphan and not one.ended:
            engine.kill(one.id)
        elif one.name in names or orphan:
            engine.discard(one.id)


def discard_left(engine: Engine, history: History) -> None:
    """Remove the containers that kernels of this machine left on an engine on another one.

    The report of one that could not send it, because its relay died with the kernel, goes into the
    history, in the place of the entry without a report.

    Those that run end by themselves, one that waits for a place has nothing to end, and those of
    other machines are theirs.
    """
    for one in engine.containers():
        owner = _owner(one)
        ours = owner is not None and (owner.of_this_boot or one.ours) and not owner.alive()
        if ours and (not one.running or one.waits or one.builds):
            if one.ended and not one.builds and (entry := _late_entry(engine, one)) is not None:
                history.add(entry)
            engine.kill(one.id)


def _late_entry(engine: Engine, one: FoundContainer) -> HistoryEntry | None:
    from lifecycle_magic.engines.base import LABEL

    try:
        content = json.loads(engine.kept_report(one.id))
        report = Report.read({**content, "container": one.name})
    except (ValueError, TypeError, RecursionError):
        return None
    if report.in_order and not report.entered:
        return None  # a spare, which ran nothing
    session, cls = (one.labels.get(f"{LABEL}.{name}", "") for name in ("session", "class"))
    return HistoryEntry.from_report(session, cls, engine.name, report)


def _owner(found: FoundContainer) -> Owner | None:
    from lifecycle_magic.engines.base import LABEL  # an engine has been used by now

    return Owner.of_label(found.labels.get(f"{LABEL}.owner", ""))


def _sweep_container(owner: Owner, run_dir: Path, session: Engines, history: History) -> str | None:
    """Clean up one run folder. Return the container's name if it has exited and was Docker's."""
    try:
        card = ContainerRecord.read(run_dir)
    except FileNotFoundError:
        discard(run_dir)  # it was never launched
        return None
    except (OSError, ValueError):
        card = ContainerRecord(run_dir.name, "unknown", run_dir.stat().st_mtime)
    entry = _left_behind(owner, run_dir, card, session)
    if entry is None:
        return None
    if card.engine == "docker" and relay_lock.state(run_dir) == "none":
        with contextlib.suppress(EngineError):  # another engine, or one that is down
            engine = session.engine("docker", announce=False)
            engine.clear_run_folder(run_dir.name, run_dir)
    done = run_dir.rename(run_dir.with_name(f".{run_dir.name}"))  # one sweep wins
    try:
        if not card.spare:
            history.add(entry)
    finally:
        ContainerRecord.path(run_dir).unlink(missing_ok=True)
        keep_record.forget(run_dir)
        remove_tree(str(done))
    return entry.container if card.engine == "docker" else None


def folders(path: Path) -> list[Path]:
    """Return the folders in ``path``, except those that a sweep has taken."""
    try:
        return sorted(one for one in path.iterdir() if one.is_dir() and one.name[0] != ".")
    except OSError:
        return []


def _left_behind(
    owner: Owner, run_dir: Path, card: ContainerRecord, session: Engines
) -> HistoryEntry | None:
    """Return what happened to the container with this run folder.

    Return None while it runs or may run: its engine does not answer, and the machine was not
    restarted.
    """
    session_id = run_dir.parent.name
    relay = relay_lock.state(run_dir)
    if relay == "held":
        return None  # it waits for the container's end
    report = Report.from_run_folder(run_dir)
    if report is None and relay == "none" and card.engine in ("docker", "process"):
        try:
            engine = session.engine(card.engine, announce=False)
            if (card.address or engine.address) != engine.address:
                raise EngineError("another engine ran this container")
            found = [one for one in engine.containers() if one.name == run_dir.name]
            if any(one.running for one in found):
                return None
            report = Report.from_run_folder(run_dir)  # it may have exited between the two reads
            for one in found if report is None else ():
                engine.kill(one.id)  # killed with its engine, or created and never started
        except EngineError:
            if owner.of_this_boot:
                return None  # the next sweep that reaches the engine reports it
    if report is not None:
        return HistoryEntry.from_report(
            session_id, card.cls, card.engine, report, memory=card.memory
        )
    connected = run_files.exists(run_dir / "log")  # the supervisor opens it after connecting
    if connected and relay == "released":
        why = (
            f"the connection to it on {card.engine} ended before it reported its end, so whether "
            "its exit finished is not known"
        )
    elif connected:
        why = "its exit did not finish: it was killed, or the engine or machine stopped"
    else:
        why = "its kernel exited before the container was ready; no hook had run"
    return HistoryEntry(
        session=session_id,
        container=run_dir.name,
        cls=card.cls,
        engine=card.engine,
        state="failed",
        why=why,
        began=card.began,
        ended=time.time(),
    )
